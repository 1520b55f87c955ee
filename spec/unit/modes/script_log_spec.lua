local log = require("host.log")

local modes = require("spec.support.modes")
local script_log = require("macp.modes.script_log")

local LOGGING = { messages = [[
  Put = { from = "participant", payload = "string key = 1;",
    apply = function(s, p, by, c) for i = 1, tonumber(p.key) do macp.log("%s says %d", by, i) end end },]] }

describe("macp.log", function()
  local rev, lines

  local function open(parts)
    rev = modes.build('local macp = require "macp"\n' .. modes.source(parts))
    assert(rev:start("s", modes.start()))
  end

  local function put(count)
    return rev:submit("s", "Put", "ann", modes.encode(rev, "Put", { key = tostring(count) }), 1)
  end

  before_each(function()
    lines = {}
    stub(log, "debug", function(event, fields) lines[#lines + 1] = { event, fields } end)
    stub(log, "enabled", function(level) return level == "debug" end)
  end)
  after_each(function()
    log.debug:revert()
    log.enabled:revert()
    if rev then rev:close() end
    rev = nil
  end)

  it("writes to the debug log with mode, revision and session", function()
    open(LOGGING)
    assert(put(2))
    assert.equal(2, #lines)
    assert.same({ "mode.log", {
      mode = rev.id, revision = rev.hash, session_id = "s", message = "ann says 2",
    } }, lines[2])
  end)

  it("is limited per revision and second, and what is lost is counted", function()
    open(LOGGING)
    local now = 5000
    rev.script_log = script_log.new({ ["mode.lua"] = "macp.log()" }, function() return now end)
    for _ = 1, 3 do assert(put(30)) end
    assert.equal(script_log.LINES_PER_SECOND, #lines)
    now = now + 1000
    assert(put(1))
    assert.same({ "mode.log_suppressed", { mode = rev.id, revision = rev.hash, lines = 70 } },
      lines[script_log.LINES_PER_SECOND + 1])
    assert.equal("mode.log", lines[script_log.LINES_PER_SECOND + 2][1])
  end)

  it("says nothing during replay, and not later either", function()
    open(LOGGING)
    assert.equal(1, (rev:apply_many("s", { "Put", "ann", modes.encode(rev, "Put", { key = "5" }), 1, 0 })))
    assert.equal(0, #lines)
    assert(put(1))
    assert.equal(1, #lines)
  end)

  it("costs a mode nothing that does not use it", function()
    open({ messages = [[ Put = { from = "participant", payload = "string key = 1;" },]] })
    assert.is_nil(rev.script_log)
    assert.is_nil(script_log.new({ ["mode.lua"] = "return {}", ["reducer.lua"] = "macp.log('x')" }))
    assert.is_table(script_log.new({ ["mode.lua"] = "return {}", ["lib/a.lua"] = "macp.log('x')" }))
  end)
end)
