-- The pipeline behind the host's own server, over sockets.

local task = require("host.task")

local app = require("macp.http.app")
local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")
local sse = require("macp.http.sse")

local eventually = require("spec.support.eventually")
local raw = require("spec.support.raw_http")
local servers = require("spec.support.http_server")

local HEAD = " HTTP/1.1\r\nHost: h\r\n"

describe("an application on a socket", function()
  local application, registry, client, port, ended

  before_each(function()
    registry, ended = metrics.new(), nil
    application = app.new({ metrics = registry, config = { cors_origin = "http://o" } })
    application:mount({
      { method = "GET", path = "/thing", public = true, summary = "A thing.", returns = { [200] = "Thing" },
        handler = function() return 200, { name = "thing" } end },
      { method = "POST", path = "/echo", public = true, summary = "Echo.", returns = { [200] = "Thing" },
        body = { type = "object", required = { "a" }, properties = { a = { type = "integer" } } },
        handler = function(_, body) return 200, body end },
      { method = "GET", path = "/slow", public = true, summary = "Slow.", returns = { [200] = "Thing" },
        handler = function()
          local ok, err = task.sleep(60000)
          ended = err and err.code or ok
          require("macp.core.errors").check(ok, err)
        end },
      { method = "GET", path = "/stream", public = true, raw = true, summary = "Events.", returns = { [200] = "Event" },
        handler = function(ctx)
          local stream = assert(sse.open(ctx))
          stream:send(sse.frame("tick", 1, "{}"))
          ctx.res:wait_closed()
          stream:close()
          ended = "stream"
        end },
      { method = "GET", path = "/broken", public = true, raw = true, summary = "Breaks.",
        returns = { [200] = "Event" },
        handler = function(ctx)
          local stream = assert(sse.open(ctx))
          stream:send("part")
          task.sleep(1)
          error("in the middle")
        end },
    })
    local server
    local limits = { max_body_bytes = 1024, half_close_ms = 20 }
    server, port = servers.start(limits, application:handler(), application:on_error())
    assert(server)
    client = raw.connect(port)
  end)
  after_each(function()
    client:close()
    application:shutdown_streams()
    servers.stop_all()
  end)

  local function problem(reply)
    local body = json.decode(reply.body)
    assert.equal(reply.status, body.statusCode)
    assert.equal("application/json; charset=utf-8", reply.headers["content-type"])
    return body
  end

  it("cuts a stream whose handler fails, so that nobody takes it for complete", function()
    client:send("GET /broken" .. HEAD .. "\r\n")
    assert.equal(200, client:head().status)
    assert.equal("\npart", client:chunk())
    assert.is_true(client:is_closed_within(1000))
  end)

  it("answers, keeps the connection and names the request", function()
    for i = 1, 3 do
      local reply = client:ask("GET /thing" .. HEAD .. "x-request-id: r" .. i .. "\r\n\r\n")
      assert.same({ 200, '{"name":"thing"}', "r" .. i, "http://o" }, {
        reply.status, reply.body, reply.headers["x-request-id"], reply.headers["access-control-allow-origin"],
      })
    end
  end)

  it("answers HEAD with the head of GET", function()
    local reply = client:ask("HEAD /thing" .. HEAD .. "\r\n", "HEAD")
    assert.same({ 200, "16" }, { reply.status, reply.headers["content-length"] })
    assert.equal(200, client:get("/thing").status)
  end)

  it("answers a preflight without a body", function()
    local reply = client:ask("OPTIONS /thing" .. HEAD .. "Access-Control-Request-Headers: x-a\r\n\r\n")
    assert.same({ 204, "x-a" }, { reply.status, reply.headers["access-control-allow-headers"] })
  end)

  it("reads JSON bodies", function()
    local head = "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    local reply = client:ask("POST /echo" .. HEAD .. head .. '{"a":7}')
    assert.same({ 200, '{"a":7}' }, { reply.status, reply.body })
  end)

  local refused = {
    { "malformed JSON", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{]", 400, "VALIDATION_ERROR" },
    { "JSON that is not UTF-8", "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\":\"\255\"}", 400,
      "VALIDATION_ERROR" },
    { "deep nesting", "Content-Type: application/json\r\nContent-Length: 400\r\n\r\n" .. ("["):rep(400), 400,
      "VALIDATION_ERROR" },
    { "a form", "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=1", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { "too much", "Content-Type: application/json\r\nContent-Length: 2000\r\n\r\n", 413, "PAYLOAD_TOO_LARGE" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. " with " .. case[3], function()
      local reply = client:ask("POST /echo" .. HEAD .. case[2])
      assert.same({ case[3], case[4] }, { reply.status, problem(reply).errorCode })
    end)
  end

  it("gives the host's refusals the same shape", function()
    local reply = client:ask("NONSENSE\r\n\r\n")
    local body = problem(reply)
    assert.same({ 400, "VALIDATION_ERROR", "Bad Request" }, { reply.status, body.errorCode, body.error })
  end)

  it("cancels the handler of a client that left and counts it as 499", function()
    client:send("GET /slow" .. HEAD .. "\r\n")
    task.sleep(20)
    client:close()
    eventually(function() return ended end, 2000, "the end of the handler")
    assert.equal("CANCELLED", ended)
    local line = 'http_requests_total{method="GET",path="/slow",status_code="499"} 1'
    eventually(function() return registry:render():find(line, 1, true) end, 1000, line)
  end)

  it("streams events until the client leaves", function()
    client:send("GET /stream" .. HEAD .. "\r\n")
    local head = client:head()
    assert.same({ 200, "text/event-stream" }, { head.status, head.headers["content-type"] })
    local expected, text = "\nevent: tick\nid: 1\ndata: {}\n\n", ""
    while #text < #expected do text = text .. client:chunk() end
    assert.equal(expected, text)
    assert.equal(1, application.streams.count)
    client:close()
    eventually(function() return application.streams.count == 0 end, 2000, "the end of the stream")
  end)

  it("says goodbye to streams at shutdown", function()
    client:send("GET /stream" .. HEAD .. "\r\n")
    client:head()
    eventually(function() return application.streams.count == 1 end, 2000)
    application:shutdown_streams()
    local text, piece = ""
    repeat
      piece = client:chunk()
      text = text .. piece
    until piece == ""
    assert.truthy(text:find("event: shutdown\nretry: 2000\ndata: {}\n\n", 1, true), text)
    eventually(function() return ended == "stream" end, 2000)
  end)
end)
