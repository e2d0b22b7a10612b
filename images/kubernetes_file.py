"""The server as Kubernetes objects: a Deployment of one replica, its Service, and claims for what it keeps.

Knows Kubernetes' API, and asks no cluster.
"""

from __future__ import annotations

from images import sandbox
from images.deployable import DRAIN, LOADING_SECONDS, PATIENCE, Deployable, quoted

_DATA_GIB = 20  # finished videos are kept up to 10 GB
_PROBE_SECONDS = 10


def text(deployable: Deployable) -> str:
    """The file."""
    return "---\n".join((_head(deployable), *_claims(deployable), _deployment(deployable), _service(deployable)))


def _head(it: Deployable) -> str:
    push = (
        "" if it.pinned else "# The cluster has to be able to pull the image: push it, and name it by digest below.\n"
    )
    return f"""\
#
#   kubectl create secret generic {it.name} --from-file=api-key=/dev/stdin    the API key: type it, then Ctrl-D twice
#   kubectl apply -f kubernetes.yaml
#   kubectl rollout status deployment/{it.name} --timeout=1h                  returns when the model is loaded
#   kubectl port-forward service/{it.name} 8000                               then http://127.0.0.1:8000
#
{push}# Changes of your own may stand here, or in an overlay of kustomize.
"""


def _claims(it: Deployable) -> list[str]:
    claims = [_claim(f"{it.name}-data", _DATA_GIB, "jobs and finished videos, the latter up to 10 GB")]
    if it.model_dir is not None:
        filled = f"""\
the model's files. Fill it before the server starts, from what `i2v-setup install` brought:
# mount it in a pod that may write, and `kubectl cp` the files of {it.model.id} to its root.
# A claim rather than a hostPath, which ties the server to a node and which restricted namespaces refuse"""
        claims.append(_claim(f"{it.name}-model", it.weights_gib, filled))
    return claims


def _claim(name: str, gib: int, about: str) -> str:
    return f"""\
# For {about}.
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests: {{storage: {gib}Gi}}
"""


def _deployment(it: Deployable) -> str:
    gpu = "\n              nvidia.com/gpu: 1  # NVIDIA's device plugin has to be there" if it.gpu else ""
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {it.name}
  labels: {{app.kubernetes.io/name: i2v-setup, app.kubernetes.io/instance: {it.name}}}
spec:
  # One, and the old one ends before the new one starts: the jobs are in a SQLite file, which one server at a time owns.
  # A second server would refuse to start. More GPUs need a deployment each, under names of their own.
  replicas: 1
  strategy: {{type: Recreate}}
  progressDeadlineSeconds: {2 * LOADING_SECONDS}  # a node may have to pull the weights first
  selector:
    matchLabels: {{app.kubernetes.io/name: i2v-setup, app.kubernetes.io/instance: {it.name}}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: i2v-setup, app.kubernetes.io/instance: {it.name}}}
    spec:
      terminationGracePeriodSeconds: {PATIENCE}  # more than --drain: the job that is made is finished first
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {sandbox.USER}
        runAsGroup: {sandbox.USER}
        fsGroup: {sandbox.USER}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {{type: RuntimeDefault}}
      containers:
        - name: server
          image: {quoted(it.image)}
          imagePullPolicy: IfNotPresent
          args: ["--drain", "{DRAIN}"]
          env:  # others can reach it: without a key it does not start
            - {{name: I2V_API_KEY_FILE, value: /run/secrets/i2v/api-key}}
          ports:
            - {{name: http, containerPort: {sandbox.PORT}}}
          startupProbe:  # that it listens; the model is loaded after that
            httpGet: {{path: /health, port: http}}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:  # that the model is loaded, and it does not drain
            httpGet: {{path: /ready, port: http}}
            periodSeconds: {_PROBE_SECONDS}
            timeoutSeconds: 5
          livenessProbe:  # that it answers; a worker that hangs is replaced by the server itself
            httpGet: {{path: /health, port: http}}
            periodSeconds: {_PROBE_SECONDS}
            timeoutSeconds: 5
            failureThreshold: 6
          resources:  # requests for videos are taken by what fits. {it.memory_reason}
            requests:
              cpu: "2"
              memory: {it.memory_gib}Gi
            limits:
              memory: {it.memory_gib}Gi{gpu}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          # How many processes it may have is the node's to say: podPidsLimit of the kubelet.
          volumeMounts:
            - {{name: data, mountPath: {sandbox.DATA}}}
            - {{name: tmp, mountPath: /tmp}}
            - {{name: shm, mountPath: /dev/shm}}
            - {{name: api-key, mountPath: /run/secrets/i2v, readOnly: true}}
{_model_mount(it)}\
      volumes:
        - name: data
          persistentVolumeClaim: {{claimName: {it.name}-data}}
        - name: tmp
          emptyDir: {{medium: Memory, sizeLimit: {_mib(sandbox.TMP_BYTES)}}}
        - name: shm  # torch passes tensors between processes through it
          emptyDir: {{medium: Memory, sizeLimit: {_mib(sandbox.SHM_BYTES)}}}
        - name: api-key
          secret: {{secretName: {it.name}, defaultMode: {0o440}}}  # 0440: its group is fsGroup
{_model_volume(it)}\
"""


def _model_mount(it: Deployable) -> str:
    if it.weights_image is not None:
        return f"            - {{name: model, mountPath: {sandbox.MODEL}, subPath: model, readOnly: true}}\n"
    if it.model_dir is not None:
        return f"            - {{name: model, mountPath: {sandbox.MODEL}, readOnly: true}}\n"
    return ""


def _model_volume(it: Deployable) -> str:
    if it.weights_image is not None:
        return f"""\
        - name: model  # an image of the weights alone: Kubernetes 1.35, or 1.33 with the feature gate ImageVolume
          image: {{reference: {quoted(it.weights_image)}, pullPolicy: IfNotPresent}}
"""
    if it.model_dir is not None:
        return f"""\
        - name: model
          persistentVolumeClaim: {{claimName: {it.name}-model}}
"""
    return ""


def _service(it: Deployable) -> str:
    return f"""\
# Inside the cluster only. What lets others in from outside has to speak TLS, and to leave the Host header as it is.
apiVersion: v1
kind: Service
metadata:
  name: {it.name}
  labels: {{app.kubernetes.io/name: i2v-setup, app.kubernetes.io/instance: {it.name}}}
spec:
  selector: {{app.kubernetes.io/name: i2v-setup, app.kubernetes.io/instance: {it.name}}}
  ports:
    - {{name: http, port: {sandbox.PORT}, targetPort: http}}
"""


def _mib(size: int) -> str:
    return f"{size >> 20}Mi"
