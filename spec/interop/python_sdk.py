"""The Python SDK of the protocol, unmodified, against a running runtime: every mode, watches, policies, control.

Usage: python_sdk.py HOST:PORT [HS256-SECRET ISSUER]
Without a secret the runtime must take any bearer as its sender (MACP_ALLOW_INSECURE=1); with one the agents sign tokens.
Ends with 1 and the names of what failed. See README.md for versions.
"""

import base64
import hashlib
import hmac
import inspect
import json
import sys
import threading
import time
import traceback
import uuid

import grpc
import macp_sdk
from macp.modes.multi_round.v1 import multi_round_pb2
from macp.v1 import core_pb2, envelope_pb2
from macp_sdk import AuthConfig, MacpClient
from macp_sdk.constants import MODE_MULTI_ROUND
from macp_sdk.envelope import build_envelope, build_session_start_payload
from macp_sdk.errors import MacpAckError

TARGET = sys.argv[1]
SECRET, ISSUER = (sys.argv[2], sys.argv[3]) if len(sys.argv) > 3 else (None, None)
OPEN, RESOLVED, SUSPENDED, CANCELLED = 1, 2, 4, 5

failures = []
clients = {}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(name):
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    now = int(time.time())
    body = b64(json.dumps({"iss": ISSUER, "aud": "macp-runtime", "sub": name, "iat": now, "exp": now + 300,
                           "macp_scopes": {"can_manage_mode_registry": True}}).encode())
    mac = hmac.new(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{b64(mac)}"


def auth(name):
    if not SECRET:
        return AuthConfig.for_dev_agent(name)
    names = inspect.signature(AuthConfig.for_bearer).parameters
    return AuthConfig.for_bearer(signed(name), **({"expected_sender": name} if "expected_sender" in names else
                                                  {"sender_hint": name}))


def client(name):
    if name not in clients:
        clients[name] = MacpClient(target=TARGET, allow_insecure=True, auth=auth(name))
    return clients[name]


def case(fn):
    try:
        fn()
        print("ok     ", fn.__name__)
    except Exception:
        failures.append(fn.__name__)
        print("failed ", fn.__name__)
        traceback.print_exc(file=sys.stdout)


def by(name):
    return {"sender": name, "auth": auth(name)}


def begin(kind, participants, **more):
    session = kind(client("coordinator"), **{k: more.pop(k) for k in list(more) if k in ("policy_version",)})
    session.start(intent="interop", participants=participants, ttl_ms=60_000, **more)
    return session


def resolve(session, action):
    session.commit(action=action, authority_scope="interop", reason="agreed")
    assert session.metadata().metadata.state == RESOLVED


def refused(fn, code):
    try:
        fn()
    except MacpAckError as err:
        assert code in str(err), str(err)
        return err
    raise AssertionError("expected " + code)


def within(seconds, fn):
    """The result of fn in a thread of its own: a watch that hears nothing must not hang the script."""
    box = []
    thread = threading.Thread(target=lambda: box.append(fn()), daemon=True)
    thread.start()
    return thread, lambda: (thread.join(seconds), box[0])[1]


def discovery():
    c = MacpClient(target=TARGET, allow_insecure=True, auth=auth("coordinator"))
    reply = c.initialize()
    assert reply.selected_protocol_version == "1.0" and reply.runtime_info.name
    assert len(c.list_modes().modes) >= 5
    assert any(m.mode == MODE_MULTI_ROUND for m in c.list_ext_modes().modes)
    assert c.get_manifest().manifest.agent_id
    c.list_roots()
    c.close()


def decision():
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice", "bob"])
    s.propose("p1", "deploy", rationale="tests passed")
    s.evaluate("p1", "approve", confidence=0.9, reason="low risk", **by("alice"))
    s.vote("p1", "approve", reason="ship", **by("bob"))
    assert s.decision_projection.majority_winner() == "p1"
    resolve(s, "deployment.approved")


def proposal():
    people = ["coordinator", "buyer", "seller"]
    s = begin(macp_sdk.ProposalSession, people)
    s.propose("p1", "100", **by("seller"))
    s.counter_propose("p2", "p1", "90", **by("buyer"))
    for name in people:
        s.accept("p2", **by(name))
    resolve(s, "deal.accepted")


def task():
    s = begin(macp_sdk.TaskSession, ["coordinator", "worker"])
    (s.request_task if hasattr(s, "request_task") else s.request)(
        "t1", "count", instructions="all", requested_assignee="worker")
    s.accept_task("t1", **by("worker"))
    (s.update_task if hasattr(s, "update_task") else s.update)("t1", status="running", progress=0.5, **by("worker"))
    (s.complete_task if hasattr(s, "complete_task") else s.complete)("t1", output=b"42", **by("worker"))
    resolve(s, "task.completed")


def handoff():
    s = begin(macp_sdk.HandoffSession, ["coordinator", "bob"])
    s.offer("h1", "bob", scope="support")
    s.add_context("h1", content_type="text/plain", context=b"so far")
    (s.accept_handoff if hasattr(s, "accept_handoff") else s.accept)("h1", **by("bob"))
    resolve(s, "handoff.accepted")


def quorum():
    s = begin(macp_sdk.QuorumSession, ["coordinator", "alice", "bob", "charlie"])
    s.request_approval("r1", "deploy", required_approvals=2)
    s.approve("r1", **by("alice"))
    s.reject("r1", **by("charlie"))
    s.approve("r1", **by("bob"))
    resolve(s, "quorum.approved")


def multi_round():
    session_id = str(uuid.uuid4())

    def send(name, message_type, payload):
        ack = client(name).send(build_envelope(mode=MODE_MULTI_ROUND, message_type=message_type, sender=name,
                                               session_id=session_id, payload=payload))
        assert ack.ok, ack

    send("coordinator", "SessionStart", build_session_start_payload(
        intent="i", participants=["alice", "bob"], ttl_ms=60_000).SerializeToString())
    send("alice", "Contribute", b'{"value":"a"}')
    for name in ("bob", "alice"):
        send(name, "Contribute", multi_round_pb2.ContributePayload(value="b").SerializeToString())
    send("coordinator", "Commitment", core_pb2.CommitmentPayload(
        commitment_id="c1", action="agreed", authority_scope="interop", reason="r", mode_version="1.0.0",
        configuration_version="config.default", policy_version="policy.default",
        outcome_positive=True).SerializeToString())
    assert client("coordinator").get_session(session_id).metadata.state == RESOLVED


def control():
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    assert s.suspend(reason="pause").session_state == SUSPENDED
    refused(lambda: s.propose("p1", "o"), "SESSION_NOT_OPEN")
    assert s.resume().session_state == OPEN
    s.propose("p1", "o")
    assert s.cancel(reason="enough").session_state == CANCELLED
    refused(lambda: s.propose("p2", "o"), "SESSION_NOT_OPEN")


def strangers():
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    refused(lambda: s.propose("p1", "o", **by("mallory")), "FORBIDDEN")
    try:
        client("mallory").get_session(s.session_id)
    except grpc.RpcError as err:
        assert err.code() == grpc.StatusCode.PERMISSION_DENIED, err
    else:
        raise AssertionError("a stranger reads the session")


def signals(watcher):
    thread, signal = within(10, lambda: next(iter(macp_sdk.SignalWatcher(watcher, auth=auth("watcher")).signals())))
    for _ in range(50):
        assert client("alice").send_signal(signal_type="ping", data=b"x").ok
        thread.join(0.1)
        if not thread.is_alive():
            break
    envelope = signal()
    envelope = getattr(envelope, "envelope", envelope)
    assert envelope.sender == "alice" and envelope.message_type == "Signal"


def watches():
    watcher = MacpClient(target=TARGET, allow_insecure=True, auth=auth("watcher"))
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])

    def events():
        kinds = []
        for event in macp_sdk.SessionLifecycleWatcher(watcher).changes():
            if event.session.session_id == s.session_id:
                kinds.append("created" if event.is_created else "cancelled" if event.is_cancelled else "other")
                if event.is_created:
                    s.cancel()
                elif event.is_cancelled:
                    return kinds

    _, heard = within(10, events)
    assert heard() == ["created", "cancelled"], heard()
    assert macp_sdk.ModeRegistryWatcher(watcher).next_change() is not None
    assert macp_sdk.RootsWatcher(watcher).next_change() is not None
    assert macp_sdk.PolicyWatcher(watcher).next_change().descriptors
    if "auth" in inspect.signature(watcher.watch_signals).parameters:
        signals(watcher)
    else:
        print("        0.4 sends no credential with WatchSignals, which needs one: not tried")
    assert client("alice").send_progress(progress_token="t", progress=50, total=100).ok


def streams():
    s = macp_sdk.DecisionSession(client("coordinator"))
    s.start(intent="i", participants=["coordinator", "alice"], ttl_ms=60_000)
    s.propose("p1", "o")
    stream = client("alice").open_stream()
    stream.send_subscribe(s.session_id)
    got = [stream.read(timeout=5).message_type for _ in range(2)]
    assert got == ["SessionStart", "Proposal"], got
    s.vote("p1", "approve", **by("alice"))
    assert stream.read(timeout=5).message_type == "Vote"
    stream.close()
    late = client("alice").open_stream()
    late.send_subscribe(s.session_id, after_sequence=10_000_000)
    time.sleep(0.3)
    s.vote("p1", "approve", **by("coordinator"))
    assert late.read(timeout=5).sender == "coordinator"
    late.close()
    assert any(m.session_id == s.session_id for m in list_sessions())
    unused = client("alice").open_stream()
    unused.close()


def list_sessions():
    found = client("alice").list_sessions()
    return getattr(found, "sessions", found)


def policies():
    from macp_sdk import policy as build
    tag = uuid.uuid4().hex[:8]
    c = client("coordinator")
    built = [
        build.build_decision_policy(f"policy.interop.d{tag}", "d", voting=build.VotingRules(algorithm="unanimous")),
        build.build_proposal_policy(f"policy.interop.p{tag}", "p"),
        build.build_task_policy(f"policy.interop.t{tag}", "t"),
        build.build_handoff_policy(f"policy.interop.h{tag}", "h"),
        build.build_quorum_policy(f"policy.interop.q{tag}", "q"),
    ]
    for policy in built:
        assert c.register_policy(policy).ok, policy
        assert c.get_policy(policy.policy_id).policy_descriptor.mode == policy.mode
    try:
        again = c.register_policy(built[0])
        assert not again.ok and "already" in again.error
    except MacpAckError as err:
        assert "already" in str(err)
    ids = [p.policy_id for p in c.list_policies(mode="macp.mode.decision.v1").descriptors]
    assert built[0].policy_id in ids and "policy.default" in ids and built[1].policy_id not in ids
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"], policy_version=built[0].policy_id)
    s.propose("p1", "o")
    s.vote("p1", "approve", **by("coordinator"))
    s.vote("p1", "reject", **by("alice"))
    err = refused(lambda: s.commit(action="go", authority_scope="a", reason="r"), "POLICY_DENIED")
    assert err.reasons, "no reasons"
    for policy in built:
        assert c.unregister_policy(policy.policy_id).ok


def extension_modes():
    mode = f"ext.interop_{uuid.uuid4().hex[:8]}.v1"
    c = client("coordinator")
    assert c.register_ext_mode(core_pb2.ModeDescriptor(
        mode=mode, mode_version="1.0.0", description="interop", message_types=["SessionStart", "Ping", "Commitment"],
        terminal_message_types=["Commitment"])).ok
    assert any(m.mode == mode for m in c.list_ext_modes().modes)
    assert c.unregister_ext_mode(mode).ok


def turned_down():
    """What the other cases leave out of every mode: objections, withdrawals, refusals, failures, abstentions."""
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    s.propose("p1", "o")
    s.raise_objection("p1", reason="risky", severity="HIGH", **by("alice"))
    s.vote("p1", "Reject", **by("alice"))
    s.commit(action="decision.rejected", authority_scope="a", reason="r", outcome_positive=False)
    s = begin(macp_sdk.ProposalSession, ["buyer", "seller"])
    s.propose("p1", "100", **by("seller"))
    s.reject("p1", reason="no", **by("buyer"))
    s.withdraw("p1", **by("seller"))
    s.propose("p2", "90", **by("seller"))
    s.reject("p2", terminal=True, reason="never", **by("buyer"))
    s.commit(action="proposal.rejected", authority_scope="a", reason="r", outcome_positive=False)
    s = begin(macp_sdk.TaskSession, ["coordinator", "worker", "other"])
    s.request_task("t1", "count", instructions="all")
    s.reject_task("t1", reason="busy", **by("other"))
    s.accept_task("t1", **by("worker"))
    s.fail_task("t1", error_code="E", reason="broken", retryable=True, **by("worker"))
    s.commit(action="task.failed", authority_scope="a", reason="r", outcome_positive=False)
    s = begin(macp_sdk.HandoffSession, ["coordinator", "bob"])
    s.offer("h1", "bob", scope="support")
    s.decline("h1", reason="no", **by("bob"))
    s.commit(action="handoff.declined", authority_scope="a", reason="r", outcome_positive=False)
    s = begin(macp_sdk.QuorumSession, ["alice", "bob"])
    s.request_approval("r1", "deploy", required_approvals=2)
    s.abstain("r1", **by("alice"))
    s.reject("r1", **by("bob"))
    s.commit(action="quorum.rejected", authority_scope="a", reason="r", outcome_positive=False)
    assert s.metadata().metadata.state == RESOLVED


def retries():
    from macp_sdk.retry import retry_send
    envelope = build_envelope(
        mode="macp.mode.decision.v1", message_type="SessionStart", sender="coordinator", session_id=str(uuid.uuid4()),
        payload=build_session_start_payload(intent="i", participants=["alice"], ttl_ms=60_000).SerializeToString())
    first, second = (retry_send(client("coordinator"), envelope) for _ in range(2))
    assert first.ok and not first.duplicate and second.ok and second.duplicate


def promotion():
    mode = f"ext.interop_{uuid.uuid4().hex[:8]}.v1"
    c = client("coordinator")
    assert c.register_ext_mode(core_pb2.ModeDescriptor(
        mode=mode, mode_version="1.0.0", description="interop", message_types=["SessionStart", "Ping", "Commitment"],
        terminal_message_types=["Commitment"])).ok
    assert c.promote_mode(mode).mode == mode
    assert any(m.mode == mode for m in c.list_modes().modes)
    assert not any(m.mode == mode for m in c.list_ext_modes().modes)


def pages():
    for _ in range(3):
        begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    c, seen, token = client("alice"), [], ""
    if not hasattr(c, "list_sessions_page"):
        return print("        this SDK has no pages")
    while True:
        found, token = c.list_sessions_page(page_size=2, page_token=token)
        seen += [m.session_id for m in found]
        if not token:
            break
    assert len(seen) == len(set(seen)) and seen == sorted(seen) and len(seen) >= 3


def agent():
    """The SDK's own loop: an agent that votes for whatever is proposed, until the session has ended."""
    from macp_sdk.agent import Participant
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    alice = Participant(participant_id="alice", session_id=s.session_id, mode="macp.mode.decision.v1",
                        client=client("alice"), auth=auth("alice"), participants=["coordinator", "alice"])
    alice.on("Proposal", lambda message, ctx: ctx.actions.vote("p1", "approve"))
    ended = []
    alice.on_terminal(lambda result: ended.append(result))
    thread = threading.Thread(target=alice.run, daemon=True)
    thread.start()
    s.propose("p1", "o")
    for _ in range(100):
        activity = {a.participant_id: a.message_count for a in s.metadata().metadata.participant_activity}
        if activity.get("alice"):
            break
        time.sleep(0.05)
    assert activity.get("alice") == 1, activity
    resolve(s, "go")
    thread.join(5)
    assert ended, "the agent was not told of the end"
    if thread.is_alive() and not hasattr(client("alice"), "list_sessions_page"):
        return print("        the agent of this SDK ends with the next message only")
    assert not thread.is_alive(), "the agent did not end"


def asynchronous():
    if not hasattr(macp_sdk, "AsyncMacpClient"):
        return print("        this SDK has no asynchronous client")
    import asyncio

    async def all_of_it():
        s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
        async with macp_sdk.AsyncMacpClient(target=TARGET, allow_insecure=True, auth=auth("alice")) as c:
            assert (await c.initialize()).selected_protocol_version == "1.0"
            assert (await c.get_session(s.session_id)).metadata.session_id == s.session_id
            stream = c.open_stream()
            await stream.send_subscribe(s.session_id)
            assert (await stream.read(timeout=5)).message_type == "SessionStart"
            await stream.close()
            async for change in c.watch_policies():
                assert change.descriptors
                break
            assert (await c.send_signal(signal_type="ping")).ok

    asyncio.run(asyncio.wait_for(all_of_it(), 20))


def commitment_hashes():
    """A commitment that supersedes another one by the SDK's hash of it."""
    try:
        from macp_sdk.commitment_hash import commitment_hash
    except ImportError:
        return print("        this SDK has no hashes of commitments")
    first = core_pb2.CommitmentPayload(commitment_id="c1", action="go", authority_scope="a", reason="r",
                                       mode_version="1.0.0", configuration_version="config.default")
    s = begin(macp_sdk.DecisionSession, ["coordinator", "alice"])
    s.propose("p1", "o", **by("alice"))
    ack = client("coordinator").send(build_envelope(
        mode="macp.mode.decision.v1", message_type="Commitment", sender="coordinator", session_id=s.session_id,
        payload=core_pb2.CommitmentPayload(
            commitment_id="c2", action="go", authority_scope="a", reason="r", mode_version="1.0.0",
            configuration_version="config.default", supersedes=core_pb2.CommitmentRef(
                session_id=str(uuid.uuid4()), commitment_hash=commitment_hash(first))).SerializeToString()))
    assert ack.ok and ack.session_state == RESOLVED, ack


for fn in (turned_down, retries, promotion, pages, agent, asynchronous, commitment_hashes, discovery, decision, proposal, task, handoff, quorum, multi_round, control, strangers, watches, streams,
           policies, extension_modes):
    case(fn)
for c in clients.values():
    c.close()
if failures:
    sys.exit("failed: " + ", ".join(failures))
