local router = require("macp.http.router")

local function build(list)
  local subject = router.new()
  for _, entry in ipairs(list) do
    local method, path = entry:match("^(%S+) (%S+)$")
    subject:add({ method = method, path = path, name = entry })
  end
  return subject
end

describe("router", function()
  local subject = build({
    "GET /", "GET /runs", "POST /runs", "POST /runs/validate", "GET /runs/:id", "DELETE /runs/:id",
    "POST /runs/:id/cancel", "POST /runs/batch/cancel", "GET /runs/:id/events", "GET /runtime/policies/:policyId",
    "GET /a/:x/c/:y", "GET /a/b/d",
    "GET /rest/*name", "GET /rest/:one/end",
  })

  local found = {
    { "GET", "/", "GET /", {} }, { "GET", "/runs", "GET /runs", {} }, { "GET", "/runs/", "GET /runs", {} },
    { "POST", "/runs/validate", "POST /runs/validate", {} }, { "GET", "/runs/7", "GET /runs/:id", { id = "7" } },
    { "HEAD", "/runs/7", "GET /runs/:id", { id = "7" } },
    { "GET", "/runs/validate", "GET /runs/:id", { id = "validate" } },
    { "PUT", "/runs/validate", nil, { "DELETE", "GET", "HEAD", "POST" } },
    { "GET", "/runs/batch/cancel", nil, { "POST" } },
    { "POST", "/runs/batch/events", nil, { "GET", "HEAD" } },
    { "POST", "/runs/batch/cancel", "POST /runs/batch/cancel", {} },
    { "POST", "/runs/x/cancel", "POST /runs/:id/cancel", { id = "x" } },
    { "GET", "/runs/batch/events", "GET /runs/:id/events", { id = "batch" } },
    { "GET", "/a/b/c/z", "GET /a/:x/c/:y", { x = "b", y = "z" } }, { "GET", "/a/b/d", "GET /a/b/d", {} },
    { "GET", "/runtime/policies/a%2Fb%20c", "GET /runtime/policies/:policyId", { policyId = "a/b c" } },
    { "GET", "/rest/a", "GET /rest/*name", { name = "a" } },
    { "GET", "/rest/a/b%2Fc/d%20e", "GET /rest/*name", { name = "a/b/c/d e" } },
    { "GET", "/rest/a/end", "GET /rest/:one/end", { one = "a" } },
    { "GET", "/rest/a/end/b", "GET /rest/*name", { name = "a/end/b" } },
    { "GET", "/runtime/policies/%C3%A4", "GET /runtime/policies/:policyId", { policyId = "ä" } },
  }
  for _, case in ipairs(found) do
    it("finds " .. case[1] .. " " .. case[2], function()
      local route, params = subject:match(case[1], case[2])
      assert.equal(case[3], route and route.name)
      assert.same(case[4], params)
    end)
  end

  local unknown = {
    "/nope", "/rest", "/rest/", "/runs/1/2/3", "/runtime/policies", ("/x"):rep(40),
  }
  for _, path in ipairs(unknown) do
    it(string.format("does not know %q", path:sub(1, 30)), function()
      local route, allowed = subject:match("GET", path)
      assert.is_nil(route)
      assert.is_nil(allowed)
    end)
  end

  local no_text = { "/runs/%zz", "/runs/%", "/runs/%00", "/runs/%ff", "/runs/\255", "/runs/a%2", "/rest/a/%zz" }
  for _, path in ipairs(no_text) do
    it(string.format("says what of %q is no text", path), function()
      local route, params, broken = subject:match("GET", path)
      assert.same({ route.name:match("[:*](%a+)$"), path:match("^/%a+/(.*)$") }, { broken, params[broken] })
    end)
  end

  it("tells the methods of a path when the method does not fit", function()
    local route, allowed = subject:match("PUT", "/runs/7")
    assert.is_nil(route)
    assert.same({ "DELETE", "GET", "HEAD" }, allowed)
  end)

  it("offers no HEAD for streams", function()
    local streams = router.new()
    streams:add({ method = "GET", path = "/stream", raw = true })
    local route, allowed = streams:match("HEAD", "/stream")
    assert.is_nil(route)
    assert.same({ "GET" }, allowed)
  end)

  it("P19: refuses duplicates, also under another parameter name", function()
    assert.has_error(function() build({ "GET /x/:a", "GET /x/:b" }) end, "route GET /x/:b is declared twice")
    assert.has_error(function() build({ "GET /x", "GET /x" }) end, "route GET /x is declared twice")
  end)

  it("names parameters per method", function()
    local two = build({ "GET /x/:a", "POST /x/:b" })
    local _, get = two:match("GET", "/x/1")
    local _, post = two:match("POST", "/x/2")
    assert.same({ { a = "1" }, { b = "2" } }, { get, post })
  end)
end)
