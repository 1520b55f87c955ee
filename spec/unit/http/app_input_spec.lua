-- What the pipeline does with bodies and queries, well-formed or not.

local fakes = require("spec.unit.http.fakes")

local UUID = "7c1e4b1a-0000-1000-8000-00000000abcd"

local route, new, assert_problem = fakes.route, fakes.application, fakes.assert_problem

describe("app bodies and queries", function()
  local seen
  local application = new({
    route({
      method = "POST", path = "/things", returns = { [201] = "Thing" },
      body = {
        type = "object", additionalProperties = false, required = { "name" },
        properties = { name = { type = "string", minLength = 1 }, size = { type = "integer", default = 3 } },
      },
      handler = function(_, body)
        seen = body
        return 201, body
      end,
    }),
    route({
      method = "POST", path = "/optional",
      body = { type = "object", additionalProperties = false, properties = { reason = { type = "string" } } },
      handler = function(_, body) return 200, { reason = body.reason or "none" } end,
    }),
    route({
      path = "/list",
      query = { type = "object", properties = { limit = { type = "integer", maximum = 5, default = 2 } } },
      handler = function(ctx) return 200, { limit = ctx.query.limit } end,
    }),
    route({ path = "/free", handler = function(ctx) return 200, { q = ctx.query.q } end }),
  })
  local JSON = { ["content-type"] = "application/json" }

  it("fill defaults in", function()
    local reply = fakes.call(application, { method = "POST", path = "/things", headers = JSON, body = '{"name":"a"}' })
    assert.equal(201, reply.status)
    assert.same({ name = "a", size = 3 }, seen)
  end)

  local refused = {
    { '{"name":""}', { "name should not be empty" } }, { '{"nam":"a"}',
      { "name must be a string", "property nam should not exist (did you mean `name`?)" } },
    { "[]", { "body must be an object" } }, { "", { "name must be a string" } },
    { '{"name":"a","size":"x"}', { "size must be an integer number" } },
  }
  for _, case in ipairs(refused) do
    it("list the problems of " .. case[1], function()
      local reply, body = fakes.call(application, { method = "POST", path = "/things", headers = JSON, body = case[1] })
      assert_problem(reply, body, 400, "VALIDATION_ERROR", body.message)
      assert.same(case[2], { unpack(body.message) })
      assert.equal("Bad Request", body.error)
    end)
  end

  it("refuse NUL characters anywhere, but not their description", function()
    for _, text in ipairs({ '{"name":"a\\u0000"}', '{"name":"a","size":1,"x":[{"y\\u0000":1}]}' }) do
      local reply, body = fakes.call(application, { method = "POST", path = "/things", headers = JSON, body = text })
      assert.same({ 400, "the body must not contain NUL characters" }, { reply.status, body.message })
    end
    local reply = fakes.call(application, { method = "POST", path = "/things", headers = JSON,
      body = '{"name":"a\\\\u0000"}' })
    assert.equal(201, reply.status)
  end)

  it("refuse malformed JSON with the parser's words", function()
    local reply, body = fakes.call(application, { method = "POST", path = "/things", headers = JSON, body = "{" })
    assert.same({ 400, "VALIDATION_ERROR", "string" }, { reply.status, body.errorCode, type(body.message) })
  end)

  it("refuse other content types with 415", function()
    for _, media in ipairs({ "application/x-www-form-urlencoded", "text/plain", "application/jsonx", ";" }) do
      local reply, body = fakes.call(application, {
        method = "POST", path = "/things", headers = { ["content-type"] = media }, body = "name=a",
      })
      assert.same({ 415, "UNSUPPORTED_MEDIA_TYPE" }, { reply.status, body.errorCode })
    end
  end)

  it("accept parameters and +json in the content type", function()
    for _, media in ipairs({ "Application/JSON; charset=utf-8", "application/merge-patch+json" }) do
      local reply = fakes.call(application, {
        method = "POST", path = "/things", headers = { ["content-type"] = media }, body = '{"name":"a"}',
      })
      assert.equal(201, reply.status)
    end
  end)

  it("take an empty body as an empty object, whatever its content type", function()
    for _, headers in ipairs({ JSON, {}, { ["content-type"] = "text/plain" } }) do
      local reply, body = fakes.call(application, { method = "POST", path = "/optional", headers = headers, body = "" })
      assert.same({ 200, "none" }, { reply.status, body.reason })
    end
  end)

  it("check and default the query", function()
    local _, body = fakes.call(application, { path = "/list" })
    assert.equal(2, body.limit)
    _, body = fakes.call(application, { path = "/list", query = "limit=5&other=1" })
    assert.equal(5, body.limit)
    local reply
    reply, body = fakes.call(application, { path = "/list", query = "limit=6" })
    assert.same({ 400, "limit must not be greater than 5" }, { reply.status, body.message[1] })
  end)

  it("parse the query on first use without a schema", function()
    local _, body = fakes.call(application, { path = "/free", query = "q=a%20b" })
    assert.equal("a b", body.q)
    local reply
    reply, body = fakes.call(application, { path = "/free", query = "q=%FF" })
    assert.same({ 400, "VALIDATION_ERROR" }, { reply.status, body.errorCode })
  end)
end)

describe("app under random input", function()
  local function random_text(random, alphabet, longest)
    local parts = {}
    for i = 1, random(0, longest) do parts[i] = alphabet[random(#alphabet)] end
    return table.concat(parts)
  end

  it("never fails and always answers in the one shape", function()
    math.randomseed(20261121)
    local application = new({
      route({ path = "/a/:id" }), route({ method = "POST", path = "/a/:name/b", body = {
        type = "object", additionalProperties = false,
        properties = {
          n = { type = "integer" }, list = { type = "array", items = { type = "string", maxLength = 3 } },
        },
      } }),
      route({ path = "/q", query = { type = "object", properties = { n = { type = "number" } } } }),
    })
    local path_parts = { "/", "a", "b", "q", "%", "%2f", "%00", "%ff", "..", ":id", "\255", "//", UUID }
    local query_parts = { "n", "=", "&", "%", "%00", "1", "-", ".5", "+", "\200", "e9" }
    local body_parts = {
      "{", "}", "[", "]", '"', '"n"', '"list"', ":", ",", "1", "1e999", "null", "\\u0000", "\255", "é",
    }
    local statuses = { [200] = true, [400] = true, [404] = true, [415] = true }
    for _ = 1, 3000 do
      local reply, body = fakes.call(application, {
        method = ({ "GET", "POST", "HEAD", "DELETE" })[math.random(4)],
        path = "/" .. random_text(math.random, path_parts, 5), query = random_text(math.random, query_parts, 6),
        headers = { ["content-type"] = ({ "application/json", "text/plain" })[math.random(2)] },
        body = random_text(math.random, body_parts, 12),
      })
      assert.is_true(statuses[reply.status], reply.status)
      if reply.status >= 400 then assert.equal(reply.status, body.statusCode) end
    end
  end)
end)
