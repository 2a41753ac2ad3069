"""The command groups ``sglora-fed client`` and ``sglora-fed certs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sglora_fed.cli_output import say, warn

if TYPE_CHECKING:
    from sglora_fed.edge.settings import OwnNode

app = typer.Typer(help="A node of one's own: set it up, look at it.", no_args_is_help=True)
certs = typer.Typer(help="Certificates and node keys for a trial.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of the node, as client init made it.")]


@app.command("init")
def client_init(
    folder: Annotated[Path, typer.Argument(help="New folder of the node.")],
    description: Annotated[str, typer.Option(help="What the adapter should be for.")],
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "127.0.0.1:8000",
    certificates: Annotated[
        Path | None,
        typer.Option("--certs", help="The node's folder that certs init made: key, authority."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Connect in plaintext, without keys.")
    ] = False,
    name: Annotated[str, typer.Option(help="What the server calls the node's client.")] = "owner",
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=TEXT, a label to predict; repeatable.")
    ] = None,
    caption: Annotated[
        list[str] | None, typer.Option(help="A caption to choose from; repeatable.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Task family of one task, to measure an adapter on.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="The description's embedding may go without noise.")
    ] = False,
    epsilon: Annotated[float | None, typer.Option(help="Largest of one release.")] = None,
    delta: Annotated[float | None, typer.Option(help="Largest of one release.")] = None,
    total_epsilon: Annotated[float | None, typer.Option(help="Of all releases.")] = None,
    port: Annotated[int, typer.Option(help="Of the SuperNode itself, on loopback.")] = 9094,
) -> None:
    """Write a node's folder and print the command that connects it."""
    from sglora_fed.edge.settings import FILE, OwnNode
    from sglora_fed.edge.starting import Connection, make_node, promise, shell_line
    from sglora_fed.errors import NodeFileError

    if (certificates is None) != insecure:
        raise NodeFileError("give --certs FOLDER (from certs init) or --insecure, one of both")
    node = OwnNode(
        file=folder.absolute() / FILE,
        description=description,
        name=name,
        labels=dict(_pair(text) for text in label or []),
        captions=tuple(caption or ()),
        data=data and data.absolute(),
    )
    given = {"epsilon": epsilon, "delta": delta, "total_epsilon": total_epsilon}
    connection = Connection(superlink, port, certificates and certificates.absolute())
    command = shell_line(node, connection)
    floor = make_node(node, promise(clear, given))
    say(f"{node.file}: allows {', '.join(floor.mechanisms)}")
    if clear:
        warn("the description's embedding leaves this node without noise")
    if insecure:
        warn("plaintext: whoever is on the way can read and change everything")
    _look_for_encoder()
    say("Connect it with:")
    say(command)


def _look_for_encoder() -> None:
    """Tell at once, not at each exchange, that descriptions cannot be embedded here."""
    from sglora_fed.backbones.weights import resolve_minilm
    from sglora_fed.errors import BackboneHashError, BackboneMissingError

    try:
        resolve_minilm(None, None, None)
    except (BackboneMissingError, BackboneHashError) as error:
        warn(f"without it this node describes nothing: {error}")


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    from sglora_fed.errors import NodeFileError

    if not separator or not key:
        raise NodeFileError(f"--label {text!r}; need KEY=TEXT")
    return key, value


@app.command("fetch")
def client_fetch(
    folder: Folder,
    endpoint: Annotated[str, typer.Option(help="HOST:PORT of sglora-fed serve.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides: backbone, privacy and so on.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", help="The node's certificate (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM, no password).")] = None,
    authority: Annotated[
        Path | None, typer.Option("--ca", help="Authority of the endpoint's certificate (PEM).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Plain HTTP, on this machine.")
    ] = False,
) -> None:
    """Get the node's adapter from an HTTPS endpoint, without Flower, and keep it."""
    from sglora_fed.config import compose
    from sglora_fed.edge.settings import FILE, read_node

    node, config = read_node(folder / FILE), compose(overrides or [])
    from sglora_fed.federation.layouts import run_layout
    from sglora_fed.serving.asking import adopt
    from sglora_fed.serving.client import EndpointClient, host_and_port
    from sglora_fed.serving.tls import files_of

    files = files_of(certificate, key, authority, None, insecure=insecure)
    host, port = host_and_port(endpoint)
    made = adopt(node, config, EndpointClient(host, port, run_layout(config), files))
    say(f"generator {made.generator}")
    say(str(node.adapter))


@app.command("status")
def client_status(folder: Folder) -> None:
    """The adapter in use, the privacy budget that is left, the last contact."""
    from sglora_fed.edge.settings import FILE, read_node
    from sglora_fed.edge.shelf import adopted, last_contact
    from sglora_fed.edge.status import budget_lines

    node = read_node(folder / FILE)
    for line in (*_adapter_lines(node, adopted(node)), *budget_lines(node)):
        say(line)
    contact = last_contact(node)
    say(f"last contact: {contact['date']} {contact['kind']} {contact['outcome']}" if contact
        else "last contact: none")  # fmt: skip


def _adapter_lines(node: OwnNode, told: dict[str, Any] | None) -> list[str]:
    if told is None:
        return ["adapter: none yet; it comes once the node is connected, and the service asks it"]
    fits = told["description_sha256"] == node.description_sha256
    confidence = told["confidence"]
    made_by = (told["generator_sha256"] or "not known")[:16]
    sure = "not known" if confidence is None else f"{confidence:.2f}"
    lines = [
        f"adapter: {node.adapter}",
        f"  of {told['date']}, by generator {made_by}, confidence {sure}",
        "  made for the description in its file" if fits else "  made for an earlier description",
    ]
    if told["measured"]:
        values = {who: next(iter(told["measured"][who].items())) for who in ("without", "with")}
        metric = values["with"][0]
        lines.append(
            f"  {metric} on own examples: {values['without'][1]:.3f} without it,"
            f" {values['with'][1]:.3f} with it"
        )
    return lines


def run(
    superlink: Annotated[str, typer.Argument(help="Name in Flower's configuration.")],
    output: Annotated[Path, typer.Option(help="Folder of the results, where the SuperLink is.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides, as for sglora-fed simulate")
    ] = None,
    goal: Annotated[
        Literal["run", "zoo", "adopt", "serve"], typer.Option(help="serve: stay up.")
    ] = "run",
) -> None:
    """Run on the nodes of a SuperLink that is up; fails when the run fails."""
    from sglora_fed.config import compose
    from sglora_fed.config.overrides import with_absolute_paths

    config = compose(overrides or [])
    from sglora_fed.launching.deployed import run_deployed

    absolute = with_absolute_paths(config, overrides or [])
    run_deployed(superlink, absolute, output.absolute(), goal)


def predict(
    folder: Folder,
    text: Annotated[str | None, typer.Option(help="A text to judge.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to judge.")] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Without the adapter.")] = False,
) -> None:
    """Which of the node's labels or captions fits best, by the adapted model."""
    from sglora_fed.edge.settings import FILE, read_node
    from sglora_fed.errors import NodeFileError

    if (text is None) == (image is None):
        raise NodeFileError("give --text or --image, one of both")
    node = read_node(folder / FILE)
    from sglora_fed.edge.predicting import predict as predicted

    item = image.absolute() if image is not None else str(text)
    found = predicted(node, item, bare=bare)
    for chance, candidate in zip(found.chances, found.texts, strict=True):
        say(f"{chance:.3f}  {candidate}")


@certs.command("init")
def certs_init(
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    node: Annotated[list[str], typer.Option(help="Name of a node; repeatable.")],
    server: Annotated[
        list[str] | None,
        typer.Option(help="Name or address by which nodes call the server; repeatable."),
    ] = None,
    port: Annotated[int, typer.Option(help="Of the SuperLink.")] = 8000,
    days: Annotated[int, typer.Option(help="How long they are valid.", min=1)] = 365,
) -> None:
    """Make a private authority, the server's certificate, and a key for each node."""
    from sglora_fed.edge.certificates import make_certificates

    make_certificates(folder, server or [], node, port, days)
    say(f"server: {folder.absolute() / 'server'}")
    for name in node:
        say(f"node {name}: {folder.absolute() / 'nodes' / name}")
    say(f"operator: FLWR_HOME={folder.absolute() / 'operator'}, superlink 'trial'")
    say(f"Keep {folder.absolute() / 'ca.key'} away from both; certs add makes more nodes with it.")


@certs.command("add")
def certs_add(
    folder: Annotated[Path, typer.Argument(help="Folder that certs init made, with ca.key.")],
    node: Annotated[list[str], typer.Option(help="Name of a new node; repeatable.")],
    days: Annotated[int, typer.Option(help="How long they are valid.", min=1)] = 365,
) -> None:
    """Make a key for each of some nodes that come later, by the same authority."""
    from sglora_fed.edge.certificates import add_nodes

    add_nodes(folder, node, days)
    for name in node:
        say(f"node {name}: {folder.absolute() / 'nodes' / name}")
