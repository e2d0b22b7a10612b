"""What goes into a Docker image: layers of weights, a build for all else; and how it reaches an engine or a registry.

    spec                           what an image is made of, as data
    build                          the flow, from a spec to an image where it is to go
      layers, weights_base         the weights: layers that are the same everywhere; below a base image in the engine
      application, inputs, buildx  all else: what the Dockerfile's build is given, and how it is followed
      composition                  an image put together of the two, as blobs
      parts, packing, image_files  what was built, as layers of our own; packed only where somebody lacks them
      passing                      what is in an engine only meanwhile, and goes also if its process was killed
      slim                         an image without weights that is there, in the place of a build
      sbom, packages               the list of what is in the image
      oci, layout, saved           images as blobs; in a directory, in an archive, as an engine writes them
    delivery                       where an image goes
      deliver                      into the local engine
      push, pull, registry         to and from a registry
      referrers                    the list, attached to an image on a registry
    verify, opening, contents      an image held against what it claims, wherever it is
      sbom_check, findings         its list held against it
    reach, podman, engine          the engine that answers, Podman's where Docker's does not; what it is and has
    container                      a server that runs in it
    deploy_files, deployable       the files that start it elsewhere; sandbox: what it may do, wherever it runs
      compose_file, kubernetes_file

Nothing here changes more of the machine than an engine's images, its containers, and the files that are asked for.
"""
