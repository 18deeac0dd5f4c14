"""weights list, download, import, verify. Each returns False if it was stopped before its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.errors import InputError, WeightsError
from napari_rada.events import Stage, StageProgress
from napari_rada.guidance.registry import CLIP_MODELS, REGISTRY, WeightEntry, entries_of, entry_named
from napari_rada.guidance.store import CACHE_VARIABLE, WeightStore
from napari_rada.guidance.weights import find_clip

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl
    from napari_rada.guidance.store import Verification

MB = 10**6


def list_weights(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Show every file of the registry and whether it is here."""
    store = WeightStore(args.cache)
    rows = [_row(entry, store) for entry in REGISTRY]
    lines = [f"{'file':<36} {'CLIP model':<24} {'size':>14}  here"]
    for row in rows:
        lines.append(f"{row['name']:<36} {row['model']:<24} {row['size']:>14}  {row['state']}")
    terms = {entry.licence: entry.host for entry in REGISTRY}
    lines += [f"Licence of {host}: {licence}" for licence, host in terms.items()]
    lines.append(f"Folder: {store.folder} (--cache or {CACHE_VARIABLE} sets another cache)")
    console.result({"folder": store.folder, "weights": rows}, "\n".join(lines))
    return True


def download_weights(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Fetch files, after asking."""
    from napari_rada.guidance.download import download

    store = WeightStore(args.cache)
    found = []
    for entry in _chosen(args.names or [CLIP_MODELS[0]]):
        if (path := _place(entry, store)) is not None:
            found.append(_checked(store.verify(entry, path, control=control)))
        else:
            consent = (lambda _: True) if args.yes else _asking(console)
            found.append(download(entry, store, consent=consent, on_bytes=_shown(entry, console), control=control))
    return _report(found, console)


def import_weights(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Take a file that was brought."""
    name = args.name or Path(args.file).name
    if args.name is None and name not in {entry.name for entry in REGISTRY}:
        raise WeightsError(
            f"{name} has not the name of a weights file; say with --name which one it is (napari-rada weights list)."
        )
    entry = entry_named(name)
    return _report([WeightStore(args.cache).import_file(entry, args.file, control=control)], console)


def verify_weights(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Read the files that are here and compare their checksums."""
    store = WeightStore(args.cache)
    entries = [entry_named(name) for name in args.names] or [e for e in REGISTRY if _place(e, store) is not None]
    if not entries:
        raise WeightsError(f"There are no weights in {store.folder}; see: napari-rada weights list")
    found = []
    for number, entry in enumerate(entries):
        console(StageProgress(Stage.VERIFY, number, len(entries), entry.name))
        found.append(store.verify(entry, _place(entry, store), control=control))
    _report(found, console)
    wrong = [check.path.name for check in found if not check.ok]
    if wrong:
        raise WeightsError(f"{', '.join(wrong)}: not the expected content; delete and get again.")
    return True


def _row(entry: WeightEntry, store: WeightStore) -> dict[str, str | int | None]:
    partial, path = store.partial(entry), _place(entry, store)
    state = str(path) if path else "no"
    if path is None and partial.exists():
        state = f"no, {partial.stat().st_size / MB:,.0f} MB of it"
    return {
        "name": entry.name,
        "kind": entry.kind,
        "model": entry.model,
        "size": entry.size_text,
        "state": state,
        "sha256": store.known_checksum(entry),
        "licence": entry.licence,
        "used_for": entry.used_for,
        "url": entry.url,
    }


def _place(entry: WeightEntry, store: WeightStore) -> Path | None:
    """Return where the file lies, None if it is not on this machine."""
    if entry.kind == "clip":
        return find_clip(entry, store)
    path = store.path(entry)
    return path if path.is_file() else None


def _chosen(names: list[str]) -> list[WeightEntry]:
    """Return the named files; the name of a CLIP model means its base and the preferred file of Alpha-CLIP."""
    chosen: list[WeightEntry] = []
    for name in names:
        if name in CLIP_MODELS:
            chosen += [entries_of(name, "clip")[0], entries_of(name, "alpha")[0]]
        else:
            chosen.append(entry_named(name))
    return list(dict.fromkeys(chosen))


def _asking(console: Console) -> Callable[[WeightEntry], bool]:
    """Return a consent that asks on the terminal."""

    def ask(entry: WeightEntry) -> bool:
        console.close()
        sys.stderr.write(
            f"{entry.name}: {entry.size_text} from {entry.host}\n  licence: {entry.licence}\n"
            f"  used for: {entry.used_for}\n"
        )
        if not sys.stdin.isatty():
            raise InputError("Nobody can be asked here; add --yes to agree to size, licence and host.")
        sys.stderr.write("Download it? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return ask


def _shown(entry: WeightEntry, console: Console) -> Callable[[int, int], None]:
    def on_bytes(done: int, total: int) -> None:
        message = f"{entry.name}, MB"
        console(StageProgress(Stage.DOWNLOAD, done // MB, (total or entry.about_bytes) // MB, message))

    return on_bytes


def _checked(found: Verification) -> Verification:
    if not found.ok:
        raise WeightsError(f"{found}; delete the file and get it again.")
    return found


def _report(found: list[Verification], console: Console) -> bool:
    rows = [{"path": f.path, "sha256": f.sha256, "expected": f.expected, "source": f.source, "ok": f.ok} for f in found]
    console.result({"weights": rows}, "\n".join(str(check) for check in found))
    return True
