"""An archive of images for containerd (OCI's layout), made without a registry."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAIT = "#include <unistd.h>\nint main() { for (;;) pause(); }"


def write_images(path: Path, image: str, sandbox: str, variables: Mapping[str, str]) -> None:
    """Write an archive of `image`, which has nothing but an environment, and of `sandbox`, which only waits.

    A container of `image` needs the folders of a machine (/usr and others) mounted into it. Each pod has one
    container of `sandbox`, which holds its namespaces.
    """
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = add(files_of_both(path.with_name("wait")), "layer.v1.tar")
    manifests = []
    for name, words in ((image, ["bash"]), (sandbox, ["/wait"])):
        settings = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "config": {"Cmd": words, "Env": [f"{key}={value}" for key, value in variables.items()]},
        }
        config = add(json.dumps(settings).encode(), "config.v1+json")
        manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
        written = add(json.dumps(manifest).encode(), "manifest.v1+json")
        manifests.append(written | {"annotations": {"io.containerd.image.name": name}})
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for name, data in blobs.items():
            file = tarfile.TarInfo(name)
            file.size = len(data)
            tar.addfile(file, io.BytesIO(data))


def files_of_both(wait: Path) -> bytes:
    """Return a tar file of /wait, compiled at `wait`, and of what a machine has beside its folders."""
    subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", wait], input=WAIT, text=True, check=True)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(wait, "wait")
        for name in ("bin", "lib", "lib64", "sbin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name in ("tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(folder)
        tar.add("/etc/passwd", "etc/passwd")
    return data.getvalue()
