-- The bridge to scripts and the codecs: cost of one operation, best of several rounds. No I/O.

local embed = require("host.embed")
local isolate = require("host.isolate")
local json = require("host.json")
local proto = require("host.proto")

local cost = require("spec.bench.lib.cost")

local BOOT = [[
local decode = native.codec("Vote", {
  { name = "proposal_id", number = 1, type = "string" },
  { name = "vote", number = 2, type = "string" },
  { name = "reason", number = 3, type = "string" },
}).decode
local state = { votes = {} }
for i = 1, 50 do state.votes["agent-" .. i] = { vote = "APPROVE", at = 1000 + i } end
return {
  nothing = function() end,
  decode = function(bytes) return decode(bytes).vote end,
  encode_state = function() return #native.cbor_encode(state) end,
}
]]

local EVENT = {
  id = "6f1c7a52-2222-4a4b-8000-9c1a2b3c4d5e", run_id = "0b9c7a52-1111-4a4b-8000-9c1a2b3c4d5e", seq = 12,
  ts = 1732180000123, type = "vote.cast", subject = { kind = "proposal", id = "p1" },
  source = { kind = "runtime", name = "macp" },
  data = { vote = "APPROVE", reason = "looks good to me, ship it", sender = "agent-a", tags = { "a", "b" } },
}

local ENVELOPE = {
  macp_version = "1.0", mode = "macp.mode.decision.v1", message_type = "Vote",
  message_id = "0b9c7a52-1111-4a4b-8000-9c1a2b3c4d5e", session_id = "6f1c7a52-2222-4a4b-8000-9c1a2b3c4d5e",
  sender = "agent-a", timestamp_unix_ms = 1732180000000, payload = ("x"):rep(67),
}

local function run_isolate(report)
  local iso = isolate.new({ name = "bench" })
  assert(iso:boot("bench", BOOT))
  local nothing, decode, encode = iso:entry("nothing"), iso:entry("decode"), iso:entry("encode_state")
  local vote = "\10\10proposal-1\18\7APPROVE\26\16looks good to me"
  assert(select(2, iso:call_fast(decode, 1000, 1000000, vote)) == "APPROVE")
  report:at_most("call into an isolate",
    cost(200000, function() iso:call_fast(nothing, 1000000, 16777216) end), 1, "us")
  report:at_most("call that decodes a payload",
    cost(100000, function() iso:call_fast(decode, 1000000, 16777216, vote) end), 2, "us")
  report:at_most("state of 150 values to CBOR",
    cost(5000, function() iso:call_fast(encode, 1000000, 16777216) end), 50, "us")
  iso:close()
end

local function run_proto(report)
  local pool = assert(proto.load(embed.read("proto/macp.pb")))
  local codec = assert(pool:codec("macp.v1.Envelope", { defaults = true }))
  local bytes = assert(codec:encode(ENVELOPE))
  report:at_most("envelope of " .. #bytes .. " bytes to table",
    cost(50000, function() codec:decode(bytes) end), 2, "us")
  report:at_most("and back", cost(50000, function() codec:encode(ENVELOPE) end), 2, "us")
end

local function run_json(report)
  local text = json.encode(EVENT)
  local decode = cost(20000, function() json.decode(text) end)
  local encode = cost(20000, function() json.encode(EVENT) end)
  report:at_most("event of " .. #text .. " bytes from JSON", decode, 5, "us")
  report:at_most("and to JSON", encode, 5, "us")
  local found, cjson = pcall(require, "cjson")
  if found then
    report:note("lua-cjson: from JSON %.2f us, to JSON %.2f us", cost(20000, function() cjson.decode(text) end),
      cost(20000, function() cjson.encode(EVENT) end))
  end
end

return {
  name = "script",
  about = "isolates, protobuf and JSON, per operation",
  run = function(report)
    run_isolate(report)
    run_proto(report)
    run_json(report)
  end,
}
