-- The step function: cost of one message of the decision mode, crossing into the isolate included. No I/O.

local source = require("macp.modes.source")
local prove = require("macp.modes.prove")
local registry = require("macp.modes.registry")
local revision = require("macp.modes.revision")
local sys = require("host.sys")

local ROUNDS, SENDERS, SESSIONS = 5, 500, 2000

local function participants(count)
  local out = {}
  for i = 1, count do out[i] = "agent-" .. i end
  return out
end

local function start_of(names)
  return { initiator = names[1], participants = names, mode_version = "1.0.0", configuration_version = "c",
    policy_version = "policy.default", ttl_ms = 60000, t = 0,
    policy = { policy_id = "policy.default", rules = { voting = { algorithm = "majority" } }, schema_version = 3 },
    payload = {} }
end

-- Best time of a round per operation, in microseconds.
local function cost(operations, prepare, run)
  local best
  for round = 1, ROUNDS do
    local context = prepare(round)
    local started = sys.cpu_ms()
    run(context)
    local took = (sys.cpu_ms() - started) * 1000 / operations
    if best == nil or took < best then best = took end
  end
  return best
end

local function run_messages(report, rev)
  local names = participants(SENDERS)
  local start = start_of(names)
  local function encode(name, payload)
    local _, bytes = assert(rev.iso:call("encode_payload", nil, name, payload))
    return bytes
  end
  local proposal = encode("Proposal", { proposal_id = "p1", option = "ship", rationale = "all tests are green" })
  local vote = encode("Vote", { proposal_id = "p1", vote = "APPROVE", reason = "looks good to me" })
  local function open(key)
    assert(rev:start(key, start))
    assert(rev:submit(key, "Proposal", names[1], proposal, 1))
    return key
  end
  report:at_most("a Vote judged and applied", cost(SENDERS, function(i) return open("submit" .. i) end, function(key)
    for k = 1, SENDERS do rev:submit(key, "Vote", names[k], vote, 2, 0) end
  end), 12, "us")
  local packed = {}
  for k = 1, SENDERS do
    local at = (k - 1) * 5
    packed[at + 1], packed[at + 2], packed[at + 3], packed[at + 4], packed[at + 5] = "Vote", names[k], vote, 2, 0
  end
  report:at_most("a Vote replayed", cost(SENDERS, function(i) return open("replay" .. i) end,
    function(key) rev:apply_many(key, packed) end), 8, "us")
  report:at_most("a Vote observed and mapped", cost(SENDERS, function(i) return open("observe" .. i) end, function(key)
    for k = 1, SENDERS do rev:observe(key, "Vote", names[k], vote, 2, "m1") end
  end), 12, "us")
  local small = start_of(participants(5))
  report:at_most("a session started", cost(SESSIONS, function() end, function()
    for i = 1, SESSIONS do rev:start("start" .. i, small) end
  end), 60, "us")
end

local function run_loading(report)
  local modes
  local loading = cost(1, function()
    if modes then modes:close() end
  end, function()
    modes = registry.new({ depth = "off" })
    assert(modes:load_all())
  end)
  report:at_most("both shipped modes loaded", loading / 1000, 15, "ms")
  local files = assert(source.read("modes/decision"))
  local proving = cost(1, function() end, function()
    local rev = assert(revision.build(files, { root = "modes/decision/" }))
    prove.run(rev, files)
    rev:close()
  end)
  report:at_most("decision built and its fixtures played", proving / 1000, 40, "ms")
  return modes
end

return {
  name = "modes",
  about = "coordination modes, per message",
  run = function(report)
    local modes = run_loading(report)
    run_messages(report, modes:get("macp.mode.decision.v1"))
    modes:close()
  end,
}
