"""The only folder that changes the machine: the CLI, detection, plans, their execution, and reports.

    cli, commands/        parse, call one function, show the result
    install               an installation, in the order of its rooms:
      machine             what this machine is: gpus/, disks/, containers, tools, pip_settings, network
      placement, state    where things lie
      choosing            torch_builds/, recipe (build, Python, back end, lock), requirements/, learnt_wheels
      sourcing, packages  which mirrors; choices, upstreams, mirror_samples
      plan, execute       the steps as data, and how they are done: backends/, weights, verify, current
      generations         environments; environments (the env commands), alone, leftovers, usage, room
    bundle, offline       the same without a network: bundles/
    weights, model_hashes a model's files; learnt_weights, weight_fetch
    recorder, report      where the time went; deployments, report_json (kept), reporting/ (shown)
    configs, atomic       edits of the user's files, and undo
    spawn, children       processes
    locking/              `make lock`

Wheels, mirrors and the fetch itself are the business of `mirrors`; what runs inside an environment is `runtime`.
"""
