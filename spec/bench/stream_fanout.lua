-- gRPC fan-out: passive subscribers of one session while messages come as fast as they are accepted.

local child = require("host.child")
local fs = require("host.fs")

local json = require("macp.core.json")
local load = require("spec.bench.lib.load")
local messages = require("macp.protocol.messages")
local stack = require("spec.bench.lib.stack")

local SUBSCRIBERS, MESSAGES = 100, 3000
local IN_FLIGHT = 8 -- a subscriber that falls 256 envelopes behind is sent away: the readers share these processors
local IN_HISTORY = 2 -- SessionStart and the proposal: a subscriber that has them is served live

return {
  name = "stream_fanout",
  about = "gRPC fan-out: envelopes delivered per second to 100 passive subscribers of one session",
  run = function(report)
    local st = stack.new()
    local proc = st:serve("runtime")
    local prefix = load.sessions(st.target, 1)
    local request = assert(messages.codec("macp.v1.StreamSessionRequest"):encode({
      subscribe_session_id = prefix .. "000000",
    }))
    assert(fs.write(st.dir .. "/request", request, { sync = false }))
    local drain = assert(child.spawn({
      file = load.programs() .. "/rpc_drain", stdout = "pipe", stderr = "inherit",
      args = {
        "--target", st.target, "--method", messages.rpc("StreamSession").path, "--metadata",
        "authorization:Bearer lead", "--request-file", st.dir .. "/request", "--streams", tostring(SUBSCRIBERS),
        "--ready", tostring(IN_HISTORY), "--messages", tostring(MESSAGES),
      },
    }))
    assert(drain:read_line("stdout") == "ready")
    load.send({ target = st.target, prefix = prefix, sessions = 1, calls = MESSAGES, in_flight = IN_FLIGHT })
    local result = json.decode(drain:read_line("stdout"))
    drain:wait()
    drain:close()
    proc:kill()
    proc:wait()
    st:close()
    if result.complete < SUBSCRIBERS then error("only " .. result.complete .. " subscribers got everything") end
    report:at_least("100 subscribers, envelopes delivered", result.rate, 100000, "/s", "echo")
    report:note("  %d envelopes in %.2f s", result.messages, result.seconds)
  end,
}
