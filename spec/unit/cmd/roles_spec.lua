local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local config = require("macp.config")
local errors = require("macp.core.errors")
local roles = require("macp.cmd.shared.roles")

describe("roles", function()
  local calls, handlers, stubs

  -- A role that writes down what happens to it.
  local function fake(name, opts)
    opts = opts or {}
    return { start = function(cfg, services)
      calls[#calls + 1] = "start " .. name
      assert(cfg.app and services.metrics and services.clock.now_ms() > 0)
      if opts.fails then return nil, errors.new("INTERNAL_ERROR", nil, "no room") end
      return {
        url = "http://" .. name,
        drain = function(_, ms)
          calls[#calls + 1] = "drain " .. name
          assert(ms > 0 and ms <= 10000 and ms % 1 == 0)
          if opts.drain then return opts.drain() end
        end,
        close = function() calls[#calls + 1] = "close " .. name end,
        reload = function() calls[#calls + 1] = "reload " .. name end,
      }
    end }
  end

  local function use(plane, runtime)
    package.loaded["macp.plane"], package.loaded["macp.runtime"] = plane, runtime
  end

  before_each(function()
    calls, handlers = {}, {}
    stubs = {
      stub(sys, "on_signal", function(name, fn) handlers[name] = fn end), stub(sys, "write"),
      stub(sys, "abort", function(code) calls[#calls + 1] = "abort " .. code end), stub(log, "error"),
      stub(log, "info"), stub(log, "warn"),
    }
  end)
  after_each(function()
    for _, each in ipairs(stubs) do each:revert() end
    use(nil, nil)
  end)

  local function serve(opts)
    return task.spawn(function()
      return roles.serve({ "runtime", "plane" }, config.load({}), opts)
    end)
  end

  it("start the runtime first and end it last", function()
    use(fake("plane"), fake("runtime"))
    local serving = serve()
    task.sleep(5)
    handlers.TERM()
    assert.equal(0, serving:join())
    assert.same({
      "start runtime", "start plane", "drain plane", "drain runtime", "close plane", "close runtime",
    }, calls)
  end)

  it("close what has started when a later one fails", function()
    use(fake("plane", { fails = true }), fake("runtime"))
    local code, err = serve():join()
    assert.is_nil(code)
    assert.equal("plane: no room", err.message)
    assert.same({ "start runtime", "start plane", "close runtime" }, calls)
  end)

  it("end at once at the second signal", function()
    use(fake("plane"), fake("runtime", { drain = function() task.sleep(20) end }))
    local serving = serve()
    task.sleep(5)
    handlers.INT()
    handlers.TERM()
    assert.equal("abort 143", calls[3])
    serving:join()
  end)

  it("go on ending when one of them fails to", function()
    use(fake("plane", { drain = function() error("stuck") end }), fake("runtime"))
    local serving = serve()
    task.sleep(5)
    handlers.TERM()
    assert.equal(0, serving:join())
    assert.equal("close runtime", calls[#calls])
  end)

  it("read their files again at HUP", function()
    use(fake("plane"), fake("runtime"))
    local serving = serve()
    task.sleep(5)
    handlers.HUP()
    handlers.TERM()
    serving:join()
    assert.same({ "reload runtime", "reload plane" }, { calls[3], calls[4] })
  end)

  it("let on_ready end them", function()
    use(fake("plane"), fake("runtime"))
    local stopped
    local serving = serve({
      on_ready = function(running, stop)
        assert(running.by_name.plane.url == "http://plane")
        stop()
      end,
      on_stop = function() stopped = true end,
    })
    assert.equal(0, serving:join())
    assert.is_true(stopped)
  end)

  it("do not start on settings that production forbids", function()
    use(fake("plane"), fake("runtime"))
    assert.equal(2, roles.serve({ "plane" }, config.load({ MACP_ENV = "production" })))
    assert.same({}, calls)
  end)
end)

describe("roles.parse", function()
  local cases = {
    { "plane,runtime", { "runtime", "plane" } }, { "runtime", { "runtime" } }, { " plane ", { "plane" } },
    { "plane,plane", { "plane" } },
  }
  for _, case in ipairs(cases) do
    it("reads " .. case[1], function() assert.same(case[2], roles.parse(case[1])) end)
  end
  it("refuses others", function()
    assert.same({ nil, "unknown role `mcpx`; the roles are plane and runtime" }, { roles.parse("plane,mcpx") })
    assert.same({ nil, "no role given" }, { roles.parse(" , ") })
  end)
end)
