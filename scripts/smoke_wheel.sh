#!/usr/bin/env bash
# Install a wheel in a clean environment and use it from another directory: what users get is the
# installed tree, not the checkout. Usage: smoke_wheel.sh dist/erprm-*.whl
set -euo pipefail
wheel=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q "$wheel"
cd "$place"
PATH="$place/venv/bin:$PATH"
erprm --version
erprm --help > help.txt
for command in $(python -c 'from erprm_cli.app import COMMANDS; print(*COMMANDS)'); do
    grep -q "  $command " help.txt
    erprm "$command" --help > /dev/null
done
echo '{"id": "a", "rollouts": [[0, 1], [1]]}' | erprm label --eta 2 -q | grep -q '"labels":\[0.71689'
echo '{"problem": "p", "steps": ["a"], "scores": [0.5]}' | erprm show --html page.html -q
grep -q Content-Security-Policy page.html
# The shipped data is there; the model's libraries are an extra, and their absence is said in one line.
python - <<'PYTHON'
from importlib.resources import files

folder = files("erprm_cli.templates")
assert (folder / "tiny" / "model.safetensors").is_file()
assert (folder / "pipelines" / "quickstart.sh").is_file()
PYTHON
if erprm sample tiny:test -L 1 2> said.txt; then exit 1; fi
grep -q "pip install '.*\[train\]'" said.txt
echo "the wheel works"
