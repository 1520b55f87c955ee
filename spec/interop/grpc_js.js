// The protocol over @grpc/grpc-js and @grpc/proto-loader, with the settings of the protocol's TypeScript SDK: .proto files
// loaded at run time, camelCase names, 64-bit numbers as text, enums as names, absent scalars as defaults. It does what
// that SDK's integration suite does.
//
// Usage: node grpc_js.js HOST:PORT PROTO-DIRECTORY
// The runtime must take any bearer as its sender (MACP_ALLOW_INSECURE=1). Ends with 1 and the names of what failed.

"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const path = require("node:path");

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [target, protoDir] = process.argv.slice(2);
const MODES = ["decision", "proposal", "task", "handoff", "quorum"];
const FILES = ["macp/v1/core.proto", "macp/v1/envelope.proto", "macp/v1/policy.proto"].concat(
  MODES.concat("multi_round").map((mode) => `macp/modes/${mode}/v1/${mode}.proto`));

const definition = loader.loadSync(FILES.map((file) => path.join(protoDir, file)), {
  includeDirs: [protoDir], keepCase: false, longs: String, enums: String, defaults: true, oneofs: true,
});
const service = grpc.loadPackageDefinition(definition).macp.v1.MACPRuntimeService;
const client = new service(target, grpc.credentials.createInsecure());

// Payloads are bytes within an envelope, encoded with what the loader itself uses.
const root = new (require("protobufjs").Root)();
root.resolvePath = (_, file) => path.join(protoDir, file);
root.loadSync(FILES);
const encode = (name, fields) => {
  const type = root.lookupType(name);
  return Buffer.from(type.encode(type.fromObject(fields)).finish());
};

const credential = (name) => {
  const metadata = new grpc.Metadata();
  if (name) metadata.set("authorization", `Bearer ${name}`);
  return metadata;
};

const call = (method, request = {}, who = null) => new Promise((resolve, reject) => {
  client[method](request, credential(who), { deadline: Date.now() + 30000 },
    (err, response) => (err ? reject(err) : resolve(response)));
});

const status = async (promise, code) => {
  await assert.rejects(promise, (err) => {
    assert.equal(err.code, code, err.message);
    return true;
  });
};

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const within = (ms, promise, what) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no ${what}`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// What a stream says, one item at a time; next() gives null at its end.
const reader = (stream) => {
  const seen = [];
  const waiting = [];
  const push = (item) => (waiting.length > 0 ? waiting.shift()(item) : seen.push(item));
  stream.on("data", (data) => push(data));
  stream.on("end", () => push(null));
  stream.on("error", (err) => push(err.code === grpc.status.CANCELLED ? null : err));
  const next = () => (seen.length > 0 ? Promise.resolve(seen.shift()) : new Promise((take) => waiting.push(take)));
  return { stream, next: (what) => within(10000, next(), what) };
};

const watch = (method, who, request = {}) => reader(client[method](request, credential(who)));

const envelope = (who, mode, type, sessionId, payload) => ({
  macpVersion: "1.0", mode, messageType: type, messageId: crypto.randomUUID(), sessionId, sender: who,
  timestampUnixMs: String(Date.now()), payload,
});

const send = async (who, given) => (await call("Send", { envelope: given }, who)).ack;

class Session {
  constructor(mode, participants, initiator = "alice") {
    this.name = mode;
    this.mode = mode === "multi_round" ? "ext.multi_round.v1" : `macp.mode.${mode}.v1`;
    this.participants = participants;
    this.initiator = initiator;
    this.id = crypto.randomUUID();
  }

  startEnvelope(more = {}) {
    return envelope(this.initiator, this.mode, "SessionStart", this.id, encode("macp.v1.SessionStartPayload", {
      intent: "interop", participants: this.participants, modeVersion: "1.0.0", configurationVersion: "config.default",
      policyVersion: "policy.default", ttlMs: 60000, maxSuspendMs: 0, contextId: "", ...more,
    }));
  }

  async start(more = {}) {
    this.policy = more.policyVersion || "policy.default";
    const ack = await send(this.initiator, this.startEnvelope(more));
    assert.ok(ack.ok, JSON.stringify(ack));
    assert.equal(ack.sessionState, "SESSION_STATE_OPEN");
    assert.equal(ack.error, null);
    assert.ok(Number(ack.acceptedAtUnixMs) > 0 && typeof ack.acceptedAtUnixMs === "string");
    return this;
  }

  try(who, type, fields) {
    return send(who, envelope(who, this.mode, type, this.id, encode(`macp.modes.${this.name}.v1.${type}Payload`, fields)));
  }

  async tell(who, type, fields) {
    const ack = await this.try(who, type, fields);
    assert.ok(ack.ok, `${type}: ${JSON.stringify(ack.error)}`);
    return ack;
  }

  async refuse(who, type, fields, code) {
    const ack = await this.try(who, type, fields);
    assert.equal(ack.ok, false);
    assert.equal(ack.error.code, code, ack.error.message);
    assert.equal(ack.sessionState, "SESSION_STATE_UNSPECIFIED");
    assert.equal(ack.sessionId, this.id);
    assert.ok(ack.error.message.includes(": "), ack.error.message);
    return ack;
  }

  commit(action) {
    return send(this.initiator, envelope(this.initiator, this.mode, "Commitment", this.id,
      encode("macp.v1.CommitmentPayload", {
        commitmentId: crypto.randomUUID(), action, authorityScope: "interop", reason: "agreed", modeVersion: "1.0.0",
        configurationVersion: "config.default", policyVersion: this.policy, outcomePositive: true,
      })));
  }

  async resolve(action) {
    const ack = await this.commit(action);
    assert.ok(ack.ok, JSON.stringify(ack.error));
    assert.equal(ack.sessionState, "SESSION_STATE_RESOLVED");
    assert.equal((await this.metadata()).state, "SESSION_STATE_RESOLVED");
  }

  async metadata(who = this.initiator) { return (await call("GetSession", { sessionId: this.id }, who)).metadata; }

  async control(method, who = this.initiator) {
    return (await call(method, { sessionId: this.id, reason: "interop" }, who)).ack;
  }
}

const TESTS = {
  async client() {
    const reply = await call("Initialize", { supportedProtocolVersions: ["1.0"] });
    assert.equal(reply.selectedProtocolVersion, "1.0");
    assert.ok(reply.runtimeInfo.name);
    for (const who of [null, "alice", "not a.valid credential"]) {
      const ids = (await call("ListModes", {}, who)).modes.map((mode) => mode.mode).sort();
      assert.deepEqual(ids, MODES.map((mode) => `macp.mode.${mode}.v1`).sort());
      assert.ok(Array.isArray((await call("ListRoots", {}, who)).roots));
      assert.ok((await call("GetManifest", { agentId: "" }, who)).manifest.agentId);
    }
    await status(call("Initialize", { supportedProtocolVersions: [] }), grpc.status.INVALID_ARGUMENT);
    await status(call("Initialize", { supportedProtocolVersions: ["99.0"] }), grpc.status.FAILED_PRECONDITION);
  },

  async decision() {
    const session = await new Session("decision", ["alice", "bob"]).start();
    await session.tell("alice", "Proposal", { proposalId: "p1", option: "Use React", rationale: "known" });
    await session.tell("bob", "Evaluation", { proposalId: "p1", recommendation: "approve", confidence: 0.9, reason: "r" });
    await session.tell("bob", "Vote", { proposalId: "p1", vote: "approve", reason: "r" });
    await session.refuse("mallory", "Vote", { proposalId: "p1", vote: "approve" }, "FORBIDDEN");
    await session.resolve("Use React");
    await session.refuse("alice", "Proposal", { proposalId: "p2", option: "o" }, "SESSION_NOT_OPEN");
  },

  async proposal() {
    const session = await new Session("proposal", ["alice", "bob"]).start();
    await session.tell("alice", "Proposal", { proposalId: "p1", title: "t", details: Buffer.from([0, 255]) });
    await session.tell("bob", "CounterProposal", { proposalId: "p2", supersedesProposalId: "p1", title: "t2" });
    await session.tell("alice", "Accept", { proposalId: "p2" });
    await session.tell("bob", "Accept", { proposalId: "p2" });
    await session.resolve("deal.accepted");
    const other = await new Session("proposal", ["alice", "bob"]).start();
    await other.tell("alice", "Proposal", { proposalId: "p1", title: "t" });
    await other.tell("bob", "Reject", { proposalId: "p1", terminal: false, reason: "no" });
    await other.tell("alice", "Withdraw", { proposalId: "p1", reason: "fine" });
  },

  async task() {
    const requested = async () => {
      const session = await new Session("task", ["alice", "bob"]).start();
      await session.tell("alice", "TaskRequest", { taskId: "t1", title: "t", instructions: "i", requestedAssignee: "bob",
        deadlineUnixMs: String(Date.now() + 60000) });
      return session;
    };
    const session = await requested();
    await session.tell("bob", "TaskAccept", { taskId: "t1" });
    await session.tell("bob", "TaskUpdate", { taskId: "t1", status: "working", progress: 0.5 });
    await session.tell("bob", "TaskComplete", { taskId: "t1", output: Buffer.from("42"), summary: "s" });
    await session.resolve("task.completed");
    await (await requested()).tell("bob", "TaskReject", { taskId: "t1", reason: "busy" });
    const failing = await requested();
    await failing.tell("bob", "TaskAccept", { taskId: "t1", assignee: "bob" });
    await failing.tell("bob", "TaskFail", { taskId: "t1", errorCode: "E1", reason: "r", retryable: true });
  },

  async handoff() {
    const session = await new Session("handoff", ["alice", "bob"]).start();
    await session.tell("alice", "HandoffOffer", { handoffId: "h1", targetParticipant: "bob", scope: "s" });
    await session.tell("alice", "HandoffContext", { handoffId: "h1", contentType: "text/plain", context: Buffer.from("c") });
    await session.tell("bob", "HandoffAccept", { handoffId: "h1" });
    await session.resolve("handoff.accepted");
    const other = await new Session("handoff", ["alice", "bob"]).start();
    await other.tell("alice", "HandoffOffer", { handoffId: "h1", targetParticipant: "bob", scope: "s" });
    await other.tell("bob", "HandoffDecline", { handoffId: "h1", reason: "no" });
  },

  async quorum() {
    const session = await new Session("quorum", ["alice", "bob", "carol", "dave"]).start();
    await session.tell("alice", "ApprovalRequest", { requestId: "r1", action: "deploy", summary: "s", requiredApprovals: 2 });
    await session.tell("alice", "Approve", { requestId: "r1" });
    await session.tell("carol", "Reject", { requestId: "r1" });
    await session.tell("dave", "Abstain", { requestId: "r1" });
    await session.tell("bob", "Approve", { requestId: "r1" });
    await session.resolve("quorum.approved");
  },

  async multiRound() {
    const session = await new Session("multi_round", ["alice", "bob"]).start();
    await session.tell("alice", "Contribute", { value: "a" });
    await session.tell("bob", "Contribute", { value: "b" });
    await session.tell("alice", "Contribute", { value: "b" });
    await session.resolve("agreed");
  },

  async cancelAndSuspend() {
    const session = await new Session("decision", ["alice", "bob"]).start();
    assert.equal((await session.control("SuspendSession")).sessionState, "SESSION_STATE_SUSPENDED");
    await session.refuse("bob", "Proposal", { proposalId: "p1", option: "o" }, "SESSION_NOT_OPEN");
    assert.equal((await session.control("ResumeSession")).sessionState, "SESSION_STATE_OPEN");
    await session.tell("bob", "Proposal", { proposalId: "p1", option: "o" });
    assert.equal((await session.control("SuspendSession")).ok, true);
    assert.equal((await session.control("CancelSession")).sessionState, "SESSION_STATE_CANCELLED");
    assert.equal((await session.metadata()).state, "SESSION_STATE_CANCELLED");
    await status(session.control("CancelSession", "mallory"), grpc.status.PERMISSION_DENIED);
    await status(session.metadata("mallory"), grpc.status.PERMISSION_DENIED);
    await status(session.metadata(null), grpc.status.UNAUTHENTICATED);
    await status(call("GetSession", { sessionId: crypto.randomUUID() }, "alice"), grpc.status.NOT_FOUND);
  },

  async duplicates() {
    const session = await new Session("decision", ["alice", "bob"]).start();
    const given = envelope("bob", session.mode, "Proposal", session.id,
      encode("macp.modes.decision.v1.ProposalPayload", { proposalId: "p1", option: "o" }));
    assert.equal((await send("bob", given)).duplicate, false);
    const again = await send("bob", given);
    assert.deepEqual([again.ok, again.duplicate, again.messageId], [true, true, given.messageId]);
  },

  async stream() {
    const session = new Session("decision", ["alice", "bob"]);
    const stream = reader(client.StreamSession(credential("alice")));
    const start = session.startEnvelope();
    stream.stream.write({ envelope: start });
    const echoed = await stream.next("echo of the start");
    assert.equal(echoed.response, "envelope");
    assert.equal(echoed.envelope.messageId, start.messageId);
    assert.equal(echoed.envelope.sender, "alice");
    stream.stream.end();
    assert.equal(await stream.next("end"), null);
  },

  async subscribe() {
    const session = await new Session("decision", ["alice", "bob"]).start();
    await session.tell("alice", "Proposal", { proposalId: "p1", option: "o" });
    const late = reader(client.StreamSession(credential("bob")));
    late.stream.write({ subscribeSessionId: session.id, afterSequence: "0" });
    assert.equal((await late.next("replay")).envelope.messageType, "SessionStart");
    assert.equal((await late.next("replay")).envelope.messageType, "Proposal");
    const future = reader(client.StreamSession(credential("bob")));
    future.stream.write({ subscribeSessionId: session.id, afterSequence: "1000000" });
    await sleep(300);
    await session.tell("bob", "Vote", { proposalId: "p1", vote: "approve" });
    assert.equal((await late.next("live")).envelope.messageType, "Vote");
    assert.equal((await future.next("live")).envelope.messageType, "Vote");
    for (const open of [late, future]) {
      open.stream.end();
      assert.equal(await open.next("end"), null);
    }
    const stranger = reader(client.StreamSession(credential("mallory")));
    stranger.stream.write({ subscribeSessionId: session.id });
    const denied = await stranger.next("denial");
    assert.equal(denied.response, "error");
    assert.ok(denied.error.code.includes("FORBIDDEN"), denied.error.code);
    stranger.stream.cancel();
    const unknown = reader(client.StreamSession(credential("alice")));
    unknown.stream.write({ subscribeSessionId: crypto.randomUUID() });
    assert.equal((await unknown.next("end")).code, grpc.status.NOT_FOUND);
  },

  async policies() {
    const policyId = `policy.interop.${crypto.randomUUID()}`;
    const descriptor = { policyId, mode: "macp.mode.decision.v1", description: "d", schemaVersion: 1,
      rules: JSON.stringify({ voting: { algorithm: "unanimous" } }) };
    assert.equal((await call("RegisterPolicy", { policyDescriptor: descriptor }, "alice")).ok, true);
    const again = await call("RegisterPolicy", { policyDescriptor: descriptor }, "alice");
    assert.equal(again.ok, false);
    assert.match(again.error, /already/i);
    const got = (await call("GetPolicy", { policyId }, "alice")).policyDescriptor;
    assert.equal(got.policyId, policyId);
    assert.deepEqual(JSON.parse(got.rules.toString()), { voting: { algorithm: "unanimous" } });
    const ids = (await call("ListPolicies", { mode: "macp.mode.decision.v1" }, "alice")).descriptors
      .map((policy) => policy.policyId);
    assert.ok(ids.includes(policyId) && ids.includes("policy.default"));
    const session = await new Session("decision", ["alice", "bob"]).start({ policyVersion: policyId });
    await session.tell("alice", "Proposal", { proposalId: "p1", option: "o" });
    await session.tell("alice", "Vote", { proposalId: "p1", vote: "approve" });
    await session.tell("bob", "Vote", { proposalId: "p1", vote: "reject" });
    const denied = await session.commit("go");
    assert.equal(denied.error.code, "POLICY_DENIED", denied.error.message);
    assert.ok(JSON.parse(denied.error.details.toString()).reasons.length > 0);
    assert.equal((await call("UnregisterPolicy", { policyId }, "alice")).ok, true);
    await status(call("GetPolicy", { policyId }, "alice"), grpc.status.NOT_FOUND);
    await status(call("ListPolicies", {}), grpc.status.UNAUTHENTICATED);
  },

  async signals() {
    const watcher = watch("WatchSignals", "carol");
    let heard = false;
    const next = watcher.next("signal").then((item) => { heard = true; return item; });
    let last;
    while (!heard) {
      last = await send("alice", envelope("alice", "", "Signal", "",
        encode("macp.v1.SignalPayload", { signalType: "ping", correlationSessionId: "s" })));
      assert.ok(last.ok, JSON.stringify(last.error));
      await sleep(50);
    }
    const got = (await next).envelope;
    assert.deepEqual([got.sender, got.messageType], ["alice", "Signal"]);
    const progress = await send("alice", envelope("alice", "", "Progress", "",
      encode("macp.v1.ProgressPayload", { progressToken: "t", progress: 50, total: 100 })));
    assert.ok(progress.ok, JSON.stringify(progress.error));
    watcher.stream.cancel();
    const anonymous = watch("WatchSignals", null);
    assert.equal((await anonymous.next("end")).code, grpc.status.UNAUTHENTICATED);
  },

  async extensionMode() {
    const mode = `ext.interop_${crypto.randomUUID().slice(0, 8)}.v1`;
    const changes = watch("WatchModeRegistry", null);
    assert.ok(await changes.next("hint"));
    const answer = await call("RegisterExtMode", { modeDescriptor: { mode, modeVersion: "1.0.0", description: "d",
      messageTypes: ["SessionStart", "Ping", "Commitment"], terminalMessageTypes: ["Commitment"] } }, "alice");
    assert.equal(answer.ok, true, answer.error);
    assert.ok(await changes.next("change"));
    const listed = async () => (await call("ListExtModes")).modes.some((one) => one.mode === mode);
    assert.ok(await listed());
    assert.equal((await call("UnregisterExtMode", { mode }, "alice")).ok, true);
    assert.equal(await listed(), false);
    changes.stream.cancel();
  },

  async watches() {
    const before = await new Session("decision", ["alice", "bob"]).start({
      contextId: "ctx", extensions: { "x.trace": Buffer.from([1, 2]), "a.first": Buffer.alloc(0) } });
    const watcher = watch("WatchSessions", "bob");
    const events = async (id, wanted) => {
      const item = await watcher.next(`${wanted} of ${id}`);
      if (item.event.session.sessionId !== id) return events(id, wanted);
      assert.equal(item.event.eventType, wanted);
      return item.event.session;
    };
    const created = await events(before.id, "EVENT_TYPE_CREATED");
    assert.equal(created.contextId, "ctx");
    assert.deepEqual(created.extensionKeys, ["a.first", "x.trace"]);
    assert.equal(created.initiator, "alice");
    const after = await new Session("task", ["alice", "bob"]).start();
    await events(after.id, "EVENT_TYPE_CREATED");
    await after.control("SuspendSession");
    await events(after.id, "EVENT_TYPE_SUSPENDED");
    await after.control("ResumeSession");
    await events(after.id, "EVENT_TYPE_RESUMED");
    await after.control("CancelSession");
    await events(after.id, "EVENT_TYPE_CANCELLED");
    watcher.stream.cancel();
    const listed = [];
    let pageToken = "";
    do {
      const page = await call("ListSessions", { pageSize: 0, pageToken }, "carol");
      listed.push(...page.sessions.map((one) => one.sessionId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.ok(listed.includes(before.id) && listed.includes(after.id));
    await status(call("ListSessions", { pageToken: "nonsense" }, "alice"), grpc.status.INVALID_ARGUMENT);
    await status(call("ListSessions", {}), grpc.status.UNAUTHENTICATED);
    const policies = watch("WatchPolicies", null);
    assert.ok((await policies.next("list")).descriptors.length > 0);
    policies.stream.cancel();
    const roots = watch("WatchRoots", null);
    assert.ok(await roots.next("hint"));
    roots.stream.cancel();
  },

  async unauthenticatedSendIsAnAck() {
    const session = new Session("decision", ["alice", "bob"]);
    const ack = (await call("Send", { envelope: session.startEnvelope() })).ack;
    assert.deepEqual([ack.ok, ack.error.code], [false, "UNAUTHENTICATED"]);
    await status(call("Send", {}, "alice"), grpc.status.INVALID_ARGUMENT);
  },

  async manyAtOnce() {
    const session = await new Session("decision", ["alice", "bob"]).start();
    const open = Array.from({ length: 100 }, () => {
      const one = reader(client.StreamSession(credential("bob")));
      one.stream.write({ subscribeSessionId: session.id });
      return one;
    });
    for (const one of open) assert.equal((await one.next("start")).envelope.messageType, "SessionStart");
    await Promise.all(Array.from({ length: 100 }, (_, i) =>
      session.tell("bob", "Proposal", { proposalId: `p${i}`, option: "o" })));
    for (const one of open) {
      one.stream.end();
      for (let i = 0; i < 100; i++) assert.equal((await one.next("proposal")).envelope.messageType, "Proposal");
      assert.equal(await one.next("end"), null);
    }
  },
};

(async () => {
  const failed = [];
  for (const [name, test] of Object.entries(TESTS)) {
    try {
      await test();
      console.log("ok     ", name);
    } catch (err) {
      failed.push(name);
      console.log("failed ", name, err.stack);
    }
  }
  client.close();
  if (failed.length > 0) console.log(`failed: ${failed.join(", ")}`);
  process.exit(failed.length > 0 ? 1 : 0);
})();
