"""Writes docs/configuration.md and .env.example from the settings classes, docs/exit-codes.md from
their table, docs/schema.md from the data dictionary, and the tables of backbones, sampling policies
and error codes in pages written by hand.

`python docs/generate.py` writes all; with `--check` it writes nothing and exits 1 naming what is
out of date.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from pydantic.fields import FieldInfo

from db import dictionary
from db.dictionary import Entry
from db.errors import VIDEO_ERRORS
from db.exit_codes import ExitCode, Then
from db.settings import PREFIX, DatabaseSettings, Settings
from producer.settings import ProducerSettings
from workers.backbones import registry
from workers.backbones.base import Spec
from workers.node.supervisor import FIRST_DELAY_SECONDS, LONG_LIFE_SECONDS, MAX_DELAY_SECONDS
from workers.sampling.policies import POLICIES
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parent.parent
CLASSES: dict[type[Settings], str] = {
    DatabaseSettings: "Servers and the local stack",
    WorkerSettings: "Worker",
    ProducerSettings: "Producer",
}

#: Read by docker-compose.yml alone, which does not start without them.
COMPOSE = {
    "POSTGRES_PASSWORD": "Use letters and digits only, because it becomes part of an address: "
    "`openssl rand -hex 24`."
    " The first start sets it; to change it later use ALTER ROLE.",
    "REDIS_PASSWORD": "Letters and digits only, too.",
    "VIDEOS_DIR": "Folder of this machine that containers see, read-only, as /videos; user 10001 "
    "must be able to read it.",
    "MODELS_DIR": "The same for /models; `reelvec models fetch --to` fills it. It may be empty for "
    "random weights.",
}

#: Names that are not ours but count. `tests/unit/test_docs.py` holds them against the code.
OTHERS = {
    "DATABASE_URL": f"Postgres address, if {PREFIX}DATABASE_URL is not set.",
    "CELERY_BROKER_URL": f"Redis or Valkey address, if {PREFIX}BROKER_URL is not set; if both are "
    "set, they must be equal.",
    "AWS_ENDPOINT_URL_S3": "Address of an S3 service that is not AWS's; http and https addresses "
    "on it mean s3:// objects.",
    "AWS_ENDPOINT_URL": "The same, if AWS_ENDPOINT_URL_S3 is not set.",
    "AWS_ACCESS_KEY_ID": "Key for the S3 service; the service s3 of docker-compose.yml needs it "
    "and is given this key.",
    "AWS_SECRET_ACCESS_KEY": "The secret of this key.",
    "AWS_SESSION_TOKEN": "Third part of temporary keys.",
    "AWS_PROFILE": "Profile whose keys and region are used if the environment has none; default: "
    "the profile `default`.",
    "AWS_SHARED_CREDENTIALS_FILE": "File with the profiles' keys; default: credentials in ~/.aws.",
    "AWS_CONFIG_FILE": "File with the profiles' regions; default: config in ~/.aws.",
    "AWS_REGION": "Region of the buckets; default: AWS is asked for it; for other services it is "
    "us-east-1.",
    "AWS_DEFAULT_REGION": "The same, if AWS_REGION is not set.",
    "AWS_EC2_METADATA_DISABLED": "true: the machine is not asked for the keys of its role.",
    "SSL_CERT_FILE": "File with the certificate authorities to trust instead of the usual ones.",
    "AWS_CA_BUNDLE": "The same for the S3 service only, where it overrides SSL_CERT_FILE.",
    "HF_ENDPOINT": "Address of the hub that `reelvec models fetch` asks.",
    "HF_TOKEN": "Token for this hub.",
    "HF_HUB_OFFLINE": "1: nothing is fetched. Workers never ask the hub, with any value.",
    "TMPDIR": "Folder of temporary files: videos from servers that do not serve ranges, and lists "
    "from a bucket.",
    "CUDA_VISIBLE_DEVICES": "GPUs that `reelvec worker` starts a process for; default: all.",
    "OMP_NUM_THREADS": "Threads of torch on the CPU; default: one per core that this process (or "
    "its container) may use.",
}


def default_of(field: FieldInfo) -> str:
    """The default as it would be written in the environment; empty for none."""
    if field.default is None or field.default_factory is not None:
        return ""
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "<!-- Written by docs/generate.py from the settings classes; change those. -->",
        "",
        f"All settings are environment variables. A `{PREFIX}` name that is not listed here is "
        "refused (exit code 2), and the message names the most similar one; an empty value counts "
        "as not set.",
        "Options that change the vectors are given to `enqueue` and stored; the settings of a "
        "worker change only its speed and limits.",
    ]
    for settings_class, title in CLASSES.items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name, field in settings_class.model_fields.items():
            default = default_of(field)
            lines += [
                f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default else ''} | "
                f"{field.description} |"
            ]
    for title, names in (
        ("Names that are not reelvec's own", OTHERS),
        ("docker-compose.yml", COMPOSE),
    ):
        lines += ["", f"## {title}", "", "| variable | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, meaning in names.items()]
    return "\n".join(lines) + "\n"


def example() -> str:
    lines = [
        "# Copy to .env and fill in. Written by docs/generate.py.",
        "# docker-compose.yml reads .env; for commands outside of containers: set -a; . ./.env",
        "",
        "# --- Needed by docker-compose.yml",
    ]
    for name, meaning in COMPOSE.items():
        lines += ["", *comment(meaning), f"{name}="]
    lines += [
        "",
        "# --- Not reelvec's own; docker-compose.yml sets the two addresses for its containers",
    ]
    for name, meaning in OTHERS.items():
        lines += ["", *comment(meaning), f"#{name}="]
    for settings_class, title in CLASSES.items():
        lines += ["", f"# --- {title}"]
        for name, field in settings_class.model_fields.items():
            lines += [
                "",
                *comment(str(field.description)),
                f"#{PREFIX}{name.upper()}={default_of(field)}",
            ]
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    lines = [
        "# Exit codes",
        "",
        "<!-- Written by docs/generate.py from db/exit_codes.py; change that. -->",
        "",
        "These are the exit codes of commands and of worker processes, and what `reelvec worker` "
        "does when one of its processes has ended with them.",
        f'"After a while" means after {FIRST_DELAY_SECONDS:g} s; the delay doubles each time the '
        "process ends within"
        f" {LONG_LIFE_SECONDS / 60:g} minutes, up to {MAX_DELAY_SECONDS:g} s. `reelvec worker` "
        "itself ends with 0, or with"
        " the code of the first of its processes that ended with another code and was not started "
        "again.",
        "",
        "| code | name | meaning | a worker process that ends with it |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {code:d} | {code.name} | {code.meaning} | {code.then.value} |" for code in ExitCode
    ]
    lines += [f"| any other | | killed by a signal, or an unexpected error | {Then.LATER.value} |"]
    return "\n".join(lines) + "\n"


def schema() -> str:
    lines = [
        "# The schema",
        "",
        "<!-- Written by docs/generate.py from db/dictionary; change that. -->",
        "",
        "These are the tables, views, columns and functions of the schema `reelvec`, as `\\d+` of "
        "psql shows them, too. How they are asked is in [sql.md](sql.md). Each encoder has a view "
        "of its own besides, named like it (`vivit`, `x_clip`): `video_id`, `embedding`, `dtype` "
        "and `created_at` of its rows in `video_embeddings`.",
    ]
    for title, entries in dictionary.PAGES.items():
        lines += ["", f"## {title}"]
        for entry in entries:
            lines += entry_lines(entry)
    return "\n".join(lines) + "\n"


def entry_lines(entry: Entry) -> list[str]:
    """A table begins one of Markdown's, each of its columns is a row of that, and a function is a
    paragraph.
    """
    if entry.kind == "COLUMN":
        return [f"| `{entry.name.partition('.')[2]}` | {entry.type} | {entry.words} |"]
    if entry.kind in ("TABLE", "VIEW"):
        head = ["| column | type | meaning |", "|---|---|---|"]
        return ["", f"### {entry.name}", "", f"{entry.kind.capitalize()}. {entry.words}", "", *head]
    return ["", f"`{entry.name}`: {entry.words}" if entry.kind == "FUNCTION" else entry.words]


def table(*rows: Sequence[object]) -> str:
    """A table in Markdown; the first row is its head."""
    head, *others = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *others])


def sampling_policies() -> str:
    return table(
        ("Policy", "Positions of the frames", "Remark", "Cost"),
        *((f"`{one.name}`", one.positions, one.remark, one.cost) for one in POLICIES.values()),
    )


def error_codes() -> str:
    return table(
        ("code", "class", "what it means", "what to do"),
        *(
            (f"`{code}`", facts.error_class.replace("_", " "), facts.meaning, facts.cure)
            for code, facts in VIDEO_ERRORS.items()
        ),
    )


def tags_and_search(spec: Spec) -> str:
    if spec.own_labels is not None:
        return f"{len(spec.own_labels().categories):,} tags of its own"
    return "" if not spec.has_text else "tags, search by words" if spec.text_alone else "tags"


def backbones() -> str:
    return table(
        (
            *("Name", "Published weights (ref)", "License", "Frames per window"),
            *("Windows per video", "Length of a vector", "Vector of a window", "Tags and search"),
        ),
        *(
            (
                f"`{spec.name}`",
                f"{spec.checkpoint} ({spec.ref})" if spec.checkpoint else "none: for tests",
                spec.license if spec.checkpoint else "",
                spec.frames_per_window,
                spec.windows_per_video,
                spec.dim,
                spec.vector,
                tags_and_search(spec),
            )
            for spec in registry.specs()
        ),
    )


def backbones_in_short() -> str:
    return table(
        ("Backbone", "Length of a vector", "License of the published weights", "Tags and search"),
        *(
            (
                spec.name,
                spec.dim,
                spec.license + ("" if spec.commercial else ": **non-commercial**"),
                tags_and_search(spec),
            )
            for spec in registry.specs()
            if spec.checkpoint
        ),
    )


def with_table(page: str, name: str, made: str) -> str:
    """A page written by hand, with the table between two marks of this name made anew."""
    text = (ROOT / page).read_text("utf-8")
    begin, end = f"<!-- {name}: written by docs/generate.py -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{page} has no marks of {name!r}: put back what `git diff` shows")
    return f"{before}{begin}\n{made}\n\n{end}{after}"


def comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def main() -> None:
    written = {
        ROOT / "docs/configuration.md": configuration(),
        ROOT / "docs/exit-codes.md": exit_codes(),
        ROOT / ".env.example": example(),
        ROOT / "docs/schema.md": schema(),
        ROOT / "docs/guide.md": with_table("docs/guide.md", "codes", error_codes()),
        ROOT / "docs/sampling.md": with_table("docs/sampling.md", "policies", sampling_policies()),
        ROOT / "docs/backbones.md": with_table("docs/backbones.md", "backbones", backbones()),
        ROOT / "README.md": with_table("README.md", "backbones", backbones_in_short()),
    }
    if sys.argv[1:] != ["--check"]:
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
        return
    stale = [
        path.name
        for path, text in written.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    if stale:
        sys.exit(f"{' and '.join(stale)}: not what the code says; run python docs/generate.py")


if __name__ == "__main__":
    main()
