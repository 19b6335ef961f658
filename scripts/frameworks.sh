#!/usr/bin/env bash
# frameworks.sh [NAME…]: tries p2p_comm with each framework that has a tests/frameworks/NAME.txt, or with those named.
# Each has an environment of its own under build/frameworks, made when its list changes: frameworks pin what others
# cannot bear. One that cannot be installed is a failure, and the others are tried all the same.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD/python
[[ $# -gt 0 ]] || set -- $(cd tests/frameworks && ls ./*.txt | sed 's|^./||; s|\.txt$||')

install() {
    cmp -s "$1" "$2/.installed" && "$2/bin/python" -c '' 2>/dev/null && return
    rm -rf "$2"
    "${PYTHON:-python3}" -m venv "$2" &&
        "$2/bin/pip" install --quiet --disable-pip-version-check --requirement "$1" &&
        cp "$1" "$2/.installed"
}

failed=()
for name; do
    venv=build/frameworks/$name
    if ! scripts/timed.sh "$name: installing" bash -c "$(declare -f install); install tests/frameworks/$name.txt $venv"; then
        failed+=("$name (not installed)")
    elif ! scripts/timed.sh "$name: tests" "$venv/bin/python" -m pytest --quiet -c tests/frameworks/pytest.ini \
        "tests/frameworks/test_$name.py"; then
        failed+=("$name")
    fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
    printf '\nfailed: %s\n' "${failed[@]}" >&2
    exit 1
fi
