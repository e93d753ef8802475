"""A member of the mesh that says whatever can be said, to a real node: it stays, answers, and starts again."""

from pathlib import Path

from federation.frames import BrokenMessageError, message_parts, read_message
from federation.messages import (
    KIND_OF,
    Chunk,
    Drain,
    Fetch,
    Have,
    Head,
    Hello,
    Load,
    MeshInvoke,
    ModelState,
    NoChunk,
    Order,
    Ordered,
    Pack,
    State,
    model_key,
)
from tests.mesh.lan import Lan
from tests.mesh.members import Member, member
from tests.mesh.meshes import Mesh, MeshNode, until
from tests.mesh.test_copies import SIZE, _model
from tests.unit.test_mesh_hostile import Babble

MESSAGES = 2000
OF_COPIES = (Fetch, Chunk, NoChunk, Have)
# What a fault of the node's own looks like in its log.
FAULTS = ("Traceback", "a fault of ours", "was not dealt with")


def babbled(babble: Babble) -> Head | None:
    """A message that is not the link's own, nor DRAIN, after which a node is asked nothing; None where it would not be
    sent at all."""
    head: Head = babble.value(babble.dice.choice([kind for kind in KIND_OF if kind not in (Hello, Pack, Drain)]))
    try:
        read_message(message_parts(head))
    except (BrokenMessageError, OverflowError):
        if not isinstance(head, MeshInvoke):  # whose body is not there yet
            return None
    return head


def say(said: Member, node: MeshNode, babble: Babble, head: Head) -> None:
    body = [bytes(babble.dice.choice((0, 0, 1, 3, 100_000)))]
    if isinstance(head, MeshInvoke):
        body = [bytes(min(max(0, tensor.size_bytes), 1000)) for tensor in head.tensors]
    send = said.shell.send_copy if isinstance(head, OF_COPIES) else said.shell.send
    said.do(lambda: send(said.id_of(node), head, body))


def answers(node: MeshNode) -> bool:
    """Whether a call is answered right for which all who might answer it are weighed."""
    answer = node.call("acme/x", {"x": [[1.0] + [0.0] * (SIZE - 1)]}, {"X-Ingle-Explain": "1"})
    return answer.status == 200 and answer.json["outputs"]["y"][0][0] == 7


def test_whatever_a_member_says_a_node_stays_answers_and_starts_again(lan: Lan, tmp_path: Path) -> None:
    with Mesh(lan, tmp_path) as mesh:
        (node,) = mesh.start("a")
        node.deploy("acme/x", _model(7))
        with member(mesh, lan.host("m"), tmp_path / "m", [node]) as said:
            babble = Babble(13)
            count = 0
            while count < MESSAGES:
                if (head := babbled(babble)) is not None:
                    say(said, node, babble, head)
                    count += 1
            # Of the model that the node has: run times by which nothing can be divided.
            record = next(said.do(lambda: said.shell.view.records("acme/x")))
            key = model_key(record.name, record.version, record.digest)
            epoch = int((tmp_path / "m" / "mesh.incarnation").read_text())
            said.do(lambda: said.shell.set_holdings([record]))
            until(lambda: node.nodes()["m"]["models"] == 1, "the member is taken for a holder of it")
            said.say(node, State(epoch, 2**40, 0, Load(), {key: ModelState(replicas=1, run_s={0: 1.0, -1: 1e-300})}))
            said.say(node, Order(2**40, "nothing known", "acme/x"))
            while not isinstance(heard := said.hears()[1], Ordered) or heard.number != 2**40:
                pass
            assert answers(node)
        log = node.log.read_text()
        assert not [fault for fault in FAULTS if fault in log], log[-3000:]
        assert len(log.splitlines()) < 60, log[-3000:]
        assert node.stop() == 0
        node.restart()
        assert answers(node)
