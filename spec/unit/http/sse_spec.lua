local sys = require("host.sys")
local task = require("host.task")

local chain = require("macp.auth.chain")
local app = require("macp.http.app")
local sse = require("macp.http.sse")
local metrics = require("macp.telemetry.metrics")

local fakes = require("spec.unit.http.fakes")

describe("sse.frame", function()
  local cases = {
    { { "canonical_event", 118, '{"a":1}' }, 'event: canonical_event\nid: 118\ndata: {"a":1}\n\n' },
    { { "heartbeat", nil, "{}" }, "event: heartbeat\ndata: {}\n\n" },
    { { "error", nil, "two\nlines\r\nand\rthree" },
      "event: error\ndata: two\ndata: lines\ndata: and\ndata: three\n\n" },
  }
  for i, case in ipairs(cases) do
    it("lays out a frame, case " .. i, function()
      assert.equal(case[2], sse.frame(case[1][1], case[1][2], case[1][3]))
    end)
  end
end)

describe("event streams", function()
  local registry, application, streams, opened

  before_each(function()
    registry, opened = metrics.new(), {}
    application = app.new({ metrics = registry, config = { cors_origin = "http://o" } })
    streams = application.streams
    application:mount({ {
      method = "GET", path = "/stream", public = true, raw = true, summary = "Events", returns = { [200] = "Event" },
      handler = function(ctx) opened[#opened + 1] = assert(sse.open(ctx, { heartbeat_ms = 1 })) end,
    } })
  end)
  after_each(function() streams:shutdown() end)

  local function open_one()
    local reply = fakes.reply()
    application:handler()(fakes.request({ path = "/stream" }), reply)
    return reply, opened[#opened]
  end

  it("start with the headers and one empty line", function()
    local reply = open_one()
    assert.same({
      200, "text/event-stream", "private, no-cache, no-store, must-revalidate, max-age=0, no-transform", "no-cache",
      "no", "keep-alive", "http://o", "\n",
    }, {
      reply.status, reply.headers["content-type"], reply.headers["cache-control"], reply.headers["pragma"],
      reply.headers["x-accel-buffering"], reply.headers["connection"], reply.headers["access-control-allow-origin"],
      reply.chunks[1],
    })
    assert.truthy(reply.headers["x-request-id"])
  end)

  it("end, the oldest first, when there are too many of a caller or a subject", function()
    local ended = {}
    local crowd = app.new({ metrics = registry, config = { stream_max_per_caller = 3, stream_max_per_run = 2 } })
    crowd:mount({ {
      method = "GET", path = "/stream", public = true, raw = true, summary = "Events", returns = { [200] = "Event" },
      handler = function(ctx)
        local stream = assert(sse.open(ctx, { subject = ctx.query.run }))
        stream.on_end = function() ended[#ended + 1] = ctx.query.name end
      end,
    } })
    local function enter(name, peer, run)
      local reply = fakes.reply()
      crowd:handler()(fakes.request({ path = "/stream", query = "name=" .. name .. (run and "&run=" .. run or ""),
        peer = peer }), reply)
      return reply
    end
    local first = enter("a1", "10.0.0.1", "r")
    enter("b1", "10.0.0.2", "r")
    assert.same({}, ended)
    enter("a2", "10.0.0.1", "r") -- the third of its run
    assert.same({ "a1" }, ended)
    assert.same({ "event: error\ndata: a newer stream took the place of this one: its run has 2 open\n\n", true },
      { first.chunks[#first.chunks], first.finished })
    enter("a3", "10.0.0.1", "s")
    local third = enter("a4", "10.0.0.1")
    assert.same({ "a1" }, ended)
    assert.is_nil(third.finished)
    enter("a5", "10.0.0.1", "r") -- the fourth of its caller, the third of its run: another one for each
    assert.same({ "a1", "a2", "b1" }, ended)
    assert.equal(3, crowd.streams.count)
    crowd:shutdown_streams()
    assert.same({ 0, nil }, { crowd.streams.count, next(crowd.streams.limits.groups) })
  end)

  it("end when the caller's key expires or is taken away, and whoever feeds them is woken", function()
    local actor = { id = "ops", type = "api-key", tenant = "t", expires_ms = sys.now_ms() + 300 }
    local waited
    local resolver = { resolve = function() return actor end }
    local guarded = app.new({ metrics = registry, auth = chain.new({ resolver }) })
    guarded:mount({ {
      method = "GET", path = "/stream", scope = "runs:read", raw = true, summary = "Events",
      returns = { [200] = "Event" },
      handler = function(ctx)
        local stream = assert(sse.open(ctx, { heartbeat_ms = 60000 }))
        local ended = task.cond()
        stream.on_end = function() ended:signal() end
        waited = ended:wait(10000)
        stream:close()
      end,
    } })
    for _, reason in ipairs({ "Expired authorization token", "Invalid authorization token" }) do
      local reply, handled = fakes.reply(), nil
      waited = nil
      local serving = task.spawn(function()
        guarded:handler()(fakes.request({ path = "/stream" }), reply)
        handled = true
      end)
      task.sleep(1)
      assert.is_nil(reply.finished)
      if reason:find("Invalid") then
        actor.revoked = true
      else
        actor.expires_ms = sys.now_ms() + 1
      end
      serving:join()
      assert.same({ true, true, "event: error\ndata: " .. reason .. "\n\n" },
        { reply.finished, waited, reply.chunks[#reply.chunks] })
      assert.is_true(handled)
      assert.equal(0, guarded.streams.count)
      actor.expires_ms = nil
    end
  end)

  it("send, offer and report a full client", function()
    local reply, stream = open_one()
    assert.is_true(stream:send(sse.frame("a", 1, "{}")))
    reply.capacity = 2
    assert.same({ false, "full" }, { stream:offer("x") })
    reply.capacity = 3
    assert.is_true(stream:offer("x"))
    assert.same({ "\n", "event: a\nid: 1\ndata: {}\n\n", "x" }, reply.chunks)
  end)

  it("share one heartbeat timer that ends with the last stream", function()
    task.sleep(5) -- what earlier tests have stopped is gone by then
    local live = task.live()
    local first_reply, first = open_one()
    local second_reply, second = open_one()
    assert.equal(live + 1, task.live())
    assert.truthy(registry:render():find("\nactive_sse_connections 2\n", 1, true))
    task.sleep(300)
    for _, reply in ipairs({ first_reply, second_reply }) do
      assert.truthy(reply.chunks[2]:find('^event: heartbeat\ndata: {"ts":"%d%d%d%d%-.*Z"}\n\n$'), reply.chunks[2])
    end
    first:close()
    first:close()
    assert.is_true(first:closed())
    second:close()
    task.sleep(1)
    assert.equal(live, task.live())
    assert.truthy(registry:render():find("\nactive_sse_connections 0\n", 1, true))
    assert.is_true(first_reply.finished)
  end)

  it("forget a client that has gone", function()
    local reply = open_one()
    reply.is_closed = true
    task.sleep(300)
    assert.equal(0, streams.count)
  end)

  it("say goodbye at shutdown", function()
    local reply, stream = open_one()
    streams:shutdown()
    assert.equal("event: shutdown\nretry: 2000\ndata: {}\n\n", reply.chunks[2])
    assert.is_true(reply.finished)
    assert.is_true(stream:closed())
    assert.equal(0, streams.count)
  end)

  it("P41: are counted once, with the status of their start", function()
    open_one()
    local line = 'http_requests_total{method="GET",path="/stream",status_code="200"} 1'
    assert.truthy(registry:render():find(line, 1, true))
  end)

  it("answer with an error as long as nothing was sent", function()
    application:mount({ {
      method = "GET", path = "/none", public = true, raw = true, summary = "Nothing", returns = { [200] = "Event" },
      handler = function() error(require("macp.core.errors").new("RUN_NOT_FOUND"), 0) end,
    } })
    local reply, body = fakes.call(application, { path = "/none" })
    assert.same({ 404, "RUN_NOT_FOUND" }, { reply.status, body.errorCode })
  end)
end)
