-- Requests that no client should send, against the real program: the right 4xx that names field, reason and
-- expectation, the connection dealt with, and nothing kept in memory.


local json = require("macp.core.json")

local raw_http = require("spec.support.raw_http")
local system = require("spec.support.system")
local workers = require("spec.support.workers")

local FLOOD = 2000
local SLOW_CLIENTS = 50
local HEAD_MS = 10000 -- what a client may take for a head
local UUID = "7c1e4b1a-0000-4000-8000-00000000abcd"

local function request(method, path, body, content_type)
  return method .. " " .. path .. " HTTP/1.1\r\nHost: test\r\nContent-Type: " .. (content_type or "application/json")
    .. "\r\nContent-Length: " .. #(body or "") .. "\r\n\r\n" .. (body or "")
end

local function descriptor(changes)
  local session = { sessionId = UUID, modeName = "macp.mode.decision.v1", modeVersion = "1.0.0",
    configurationVersion = "config.default", ttlMs = 60000, participants = { { id = "ann" } } }
  local body = { mode = "live", runtime = { kind = "rust" }, session = session }
  for key, value in pairs(changes) do
    if key == "session" then
      for name, inner in pairs(value) do session[name] = inner end
    else
      body[key] = value
    end
  end
  return json.encode(body)
end

-- What is sent, the status, and words of the answer.
local CASES = {
  { "no request at all", "\1\2\3\4 hello\r\n\r\n", 400 },
  { "an unknown version", "GET /healthz HTTP/7.3\r\nHost: test\r\n\r\n", 505, "HTTP/1.1" },
  { "a head without end", "GET /healthz HTTP/1.1\r\nX-Long: " .. ("x"):rep(70000) .. "\r\n\r\n", 431 },
  { "too many header fields", "GET /healthz HTTP/1.1\r\nHost: t\r\n" .. ("X-A: 1\r\n"):rep(200) .. "\r\n", 431 },
  { "a path without end", "GET /" .. ("a"):rep(70000) .. " HTTP/1.1\r\nHost: test\r\n\r\n", 414 },
  { "a control character in a field", "GET /healthz HTTP/1.1\r\nHost: te\0st\r\n\r\n", 400 },
  { "two lengths", "POST /runs HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400 },
  { "a length and chunks", "POST /runs HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "0\r\n\r\n", 400 },
  { "a chunk of no size", "POST /runs HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", 400 },
  { "an oversized body", "POST /runs HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
    .. "Content-Length: 50000000\r\n\r\n{", 413 },
  { "an unknown route", request("GET", "/nowhere"), 404, "GET /nowhere" },
  { "an unknown method of a route", request("DELETE", "/runs"), 404, "Cannot DELETE /runs" },
  { "an id that is no UUID", request("GET", "/runs/17"), 400, "uuid" },
  { "a run that does not exist", request("GET", "/runs/" .. UUID), 404, UUID },
  { "events of a run that does not exist", request("GET", "/runs/" .. UUID .. "/events"), 404, UUID },
  { "a number that is none", request("GET", "/runs?limit=many"), 400, "limit must be an integer number" },
  { "a number out of range", request("GET", "/runs?limit=0"), 400, "limit must not be less than 1" },
  { "an unknown choice", request("GET", "/runs?sortBy=color"), 400, "sortBy must be one of" },
  { "half of a JSON text", request("POST", "/runs", '{"mode":'), 400, "the body is not JSON: line 1, column 9" },
  { "JSON in another encoding", request("POST", "/runs", '{"mode":"\255\254"}'), 400, "UTF-8" },
  { "JSON without bottom", request("POST", "/runs", ("["):rep(100000)), 400, "deep" },
  { "a list where an object is due", request("POST", "/runs", "[]"), 400, "object" },
  { "nothing where an object is due", request("POST", "/runs", ""), 400, "must be" },
  { "another type of body", request("POST", "/runs", "mode=live", "application/x-www-form-urlencoded"), { 400, 415 },
    "application/json" },
  { "fields of the wrong type", request("POST", "/runs", descriptor({ mode = 5 })), 400, "mode must be" },
  { "a field too few", request("POST", "/runs", '{"mode":"live"}'), 400, "session must be" },
  { "a field too many", request("POST", "/runs", descriptor({ colour = "red" })), 400,
    "property colour should not exist" },
  { "a nested field of the wrong type", request("POST", "/runs", descriptor({ session = { ttlMs = "soon" } })), 400,
    "session.ttlMs must be" },
  { "a nested number out of range", request("POST", "/runs", descriptor({ session = { ttlMs = -1 } })), 400,
    "session.ttlMs must" },
}

local function is_status(expected, status)
  if type(expected) == "number" then return status == expected end
  for _, one in ipairs(expected) do
    if one == status then return true end
  end
  return false
end

describe("bad HTTP input", function()
  local world, slow

  setup(function()
    world = system.start()
    slow = {}
    for i = 1, SLOW_CLIENTS do
      slow[i] = raw_http.connect(world.http_port)
      slow[i]:send("GET /healthz HTTP/1.1\r\nX-Slow: ")
    end
  end)

  teardown(function() world:close() end)

  local function ask(bytes)
    local client = raw_http.connect(world.http_port)
    client:send(bytes)
    local reply = client:reply()
    client:close()
    return reply
  end

  for _, case in ipairs(CASES) do
    it(case[1] .. " is refused", function()
      local reply = assert(ask(case[2]), "no answer")
      assert.is_true(is_status(case[3], reply.status), reply.status .. " " .. reply.body)
      local problem = assert(json.decode(reply.body), reply.body)
      assert.equal(reply.status, problem.statusCode)
      assert.is_string(problem.errorCode)
      assert.is_true(problem.errorCode ~= "INTERNAL_ERROR")
      local message = type(problem.message) == "table" and table.concat(problem.message, "\n") or problem.message
      assert.is_true(#message > 0)
      if case[4] then assert.truthy(message:find(case[4], 1, true), message) end
      assert.equal(200, (world:get("/healthz")))
    end)
  end

  it("two thousand times leaves the memory as it was", function()
    for _ = 1, 3 do
      for _, case in ipairs(CASES) do ask(case[2]) end -- caches and pools fill up
    end
    local before = world:rss_mib()
    workers.each(FLOOD, 8, function(i)
      local case = CASES[(i - 1) % #CASES + 1]
      assert(ask(case[2]), case[1])
    end)
    local grown = world:rss_mib() - before
    assert.is_true(system.is_slow or grown < 16, grown .. " MiB more")
    assert.equal(0, world:rows("select count(*) as n from runs")[1].n)
    assert.equal(200, (world:get("/healthz")))
  end)

  it("slow heads end with 408 after the time for a head, and hold up nobody", function()
    for _, client in ipairs(slow) do
      assert(client:fill(HEAD_MS + 5000))
      local reply = client:reply()
      assert.equal(408, reply and reply.status)
      client:close()
    end
    slow = {}
  end)

  it("lets the program end in order", function() world:stop() end)
end)
