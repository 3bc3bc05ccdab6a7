"""A Kubernetes cluster of hosts on this machine: a control plane, and a kubelet with its containerd per host.

The containers see the folders of this machine, so their image has nothing but an environment.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import psutil

from tests.cluster.container_images import write_images

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns")
HOST = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc")
PROGRAMS = (*CONTROL_PLANE, *HOST, "kubectl", "gcc")
PLUGINS = Path(os.environ.get("CNI_PLUGINS", "/usr/lib/cni"))
IMAGE, SANDBOX = "erprm.test/erprm:1", "erprm.test/sandbox:1"
GPUS = 8  # that a host has by its own account
WAIT_S = 600
INDEX = "batch.kubernetes.io/job-completion-index"
SERVER = "https://127.0.0.1:6443"
DNS = "10.244.0.1"  # the address of this machine on the bridge of the pods
LOST_AFTER_S = 10
KUBECONFIG = f"""
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: admin}}}}]
clusters: [{{name: here, cluster: {{server: "{SERVER}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: secret}}}}]
"""
COREFILE = """
cluster.local:53 in-addr.arpa:53 {{
    bind {dns}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {folder}/kubeconfig
    }}
}}
"""
BRIDGE = """
{
  "cniVersion": "0.4.0", "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "pods", "isGateway": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/16"}]], "dataDir": "%s"}
  }]
}
"""
CONTAINERD = """
version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{sandbox}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{plugins}"]
conf_dir = "{parent}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{parent}/container.json"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
Root = "{folder}/runc"
"""
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{folder}/containerd.sock
podLogsDir: {folder}/logs
address: {address}
port: 10250
healthzPort: 0
clusterDomain: cluster.local
clusterDNS: [{dns}]
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
evictionHard: {{memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
"""
VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {{name: data}}
spec:
  storageClassName: ""
  accessModes: [ReadWriteMany]
  capacity: {{storage: 1Gi}}
  hostPath: {{path: {folder}}}
  claimRef: {{namespace: default, name: data}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec:
  storageClassName: ""
  accessModes: [ReadWriteMany]
  resources: {{requests: {{storage: 1Gi}}}}
"""
OWN = {"proc", "sys", "dev", "run", "tmp", "etc", "lost+found"}  # folders that containers do not share


class Kubernetes:
    """The cluster; `folder` has its configuration, state and logs."""

    def __init__(self, folder: Path, nodes: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start nothing yet. Containers get the `environment`."""
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise FileNotFoundError(", ".join(missing))
        self.folder, self.nodes, self.variables = folder, nodes, environment
        self.environment = os.environ | {"KUBECONFIG": str(folder / "kubeconfig")}
        self.daemons: dict[str, list[subprocess.Popen[bytes]]] = {}

    def start(self) -> None:
        """Start the daemons; return when all hosts are ready."""
        folder = self.folder
        (folder / "kubeconfig").write_text(KUBECONFIG)
        (folder / "Corefile").write_text(COREFILE.format(dns=DNS, folder=folder))
        (folder / "tokens.csv").write_text('secret,admin,admin,"system:masters"\n')
        (folder / "cni").mkdir()
        (folder / "cni" / "pods.conflist").write_text(BRIDGE % (folder / "addresses"))
        self.write_container_spec()
        write_images(folder / "images.tar", IMAGE, SANDBOX, self.variables)
        key = folder / "accounts.key"
        run("openssl", "genrsa", "-out", key, "2048")
        run("ip", "link", "add", "pods", "type", "bridge")
        run("ip", "address", "add", f"{DNS}/16", "dev", "pods")
        run("ip", "link", "set", "pods", "up")

        self.daemon("etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync")
        self.daemon(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--cert-dir={folder}/certificates",
            "--bind-address=127.0.0.1",
            f"--advertise-address={DNS}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
            f"--default-not-ready-toleration-seconds={LOST_AFTER_S}",
            f"--default-unreachable-toleration-seconds={LOST_AFTER_S}",
        )
        self.wait_until(lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok")
        self.daemon(
            "kube-controller-manager",
            f"--kubeconfig={folder}/kubeconfig",
            f"--service-account-private-key-file={key}",
            "--leader-elect=false",
            "--node-monitor-period=2s",
            f"--node-monitor-grace-period={LOST_AFTER_S}s",
        )
        self.daemon("kube-scheduler", f"--kubeconfig={folder}/kubeconfig", "--leader-elect=false")
        self.daemon("coredns", "-conf", folder / "Corefile")
        for node in self.nodes:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a host; return when it is ready and says that it has GPUs."""
        folder = self.folder / node
        folder.mkdir(exist_ok=True)
        address = f"10.9.0.{self.nodes.index(node) + 1}"
        places = {"folder": folder, "parent": self.folder, "plugins": PLUGINS, "sandbox": SANDBOX}
        (folder / "containerd.toml").write_text(CONTAINERD.format(**places))
        (folder / "kubelet.yaml").write_text(KUBELET.format(folder=folder, address=address, dns=DNS))
        self.daemon("containerd", "--config", folder / "containerd.toml", node=node)
        ctr = ("ctr", "--address", folder / "containerd.sock", "--namespace", "k8s.io", "images", "import")
        self.wait_until(lambda: succeeds(*ctr, self.folder / "images.tar"))
        self.daemon(
            "kubelet",
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={self.folder}/kubeconfig",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/certificates",
            f"--hostname-override={node}",
            f"--node-ip={address}",
            node=node,
        )
        self.wait_until(lambda: self.is_ready(node))
        gpus = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(GPUS)}]
        self.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(gpus))

    def stop(self) -> None:
        for node in self.nodes:
            self.lose(node)
        for daemon in reversed(self.daemons.pop("", [])):
            daemon.terminate()
            daemon.wait()

    def lose(self, node: str) -> None:
        """Kill all processes of a host, those in its containers included."""
        daemons = self.daemons.pop(node, [])
        for daemon in daemons:
            daemon.kill()
        for process in self.container_processes(node):
            with suppress(psutil.NoSuchProcess):  # its parent was killed before
                process.kill()
        for daemon in daemons:
            daemon.wait()

    def container_processes(self, node: str) -> list[psutil.Process]:
        """Return the shims of a host's containers, which name its folder, and what runs in them."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder / node) in " ".join(process.info["cmdline"] or []):
                found += [process, *process.children(recursive=True)]
        return found

    def daemon(self, program: str, *words: object, node: str = "") -> None:
        """Start a program of a host, or without one, of the control plane."""
        log = self.folder / node / f"{program}.log"
        with log.open("ab") as output:
            command = [program, *map(str, words)]
            started = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        self.daemons.setdefault(node, []).append(started)

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl; return its stdout."""
        done = subprocess.run(
            ["kubectl", *words],
            input=stdin,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            text=True,
            check=check,
        )
        return done.stdout

    def get(self, *words: str) -> Any:
        return orjson.loads(self.kubectl("get", *words, "-o", "json"))

    def pods(self, job: str) -> dict[int, Any]:
        """Return the pods of a job by their index, without those that are going."""
        pods = self.get("pods", "-l", f"job-name={job}")["items"]
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {int(pod["metadata"]["annotations"][INDEX]): pod for pod in staying}

    def is_ready(self, node: str) -> bool:
        said = self.kubectl("get", "node", node, "-o", "json", check=False)
        conditions = orjson.loads(said)["status"].get("conditions", []) if said else []
        return any(now["type"] == "Ready" and now["status"] == "True" for now in conditions)

    def wait_until(self, is_true: Callable[[], bool], interval_s: float = 0.5) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_true():
            for daemon in chain(*self.daemons.values()):
                if daemon.poll() is not None:
                    raise RuntimeError(f"{daemon.args!r} has ended; its log is in {self.folder}")
            if time.monotonic() > deadline:
                raise TimeoutError(self.kubectl("get", "nodes,pods,jobs,events", "-o", "wide", check=False))
            time.sleep(interval_s)

    def write_container_spec(self) -> None:
        """Write what all containers begin with: the default, and the folders of this machine."""
        spec = orjson.loads(run("ctr", "oci", "spec"))
        for path in sorted(Path("/").iterdir()):
            if path.is_dir() and not path.is_symlink() and path.name not in OWN:
                bind = {"type": "bind", "source": str(path), "options": ["rbind", "ro"]}
                spec["mounts"].append({"destination": str(path), **bind})
        (self.folder / "container.json").write_bytes(orjson.dumps(spec))


def succeeds(*words: object) -> bool:
    return subprocess.run([*map(str, words)], capture_output=True).returncode == 0


def run(*words: object) -> bytes:
    return subprocess.run([*map(str, words)], stdout=subprocess.PIPE, check=True).stdout
