local crypto = require("host.crypto")

local etag = require("macp.http.steps.etag")

local fakes = require("spec.unit.http.fakes")

describe("entity tags", function()
  local said
  local application = fakes.application({
    fakes.route({ etag = true, handler = function() return 200, said end }),
    fakes.route({ path = "/own", etag = true, handler = function()
      return 200, "text", { etag = '"mine"', ["content-type"] = "text/plain", ["cache-control"] = "public" }
    end }),
    fakes.route({ path = "/made", etag = true, handler = function() return 201, { ok = true } end }),
    fakes.route({ path = "/plain", handler = function() return 200, { ok = true } end }),
  })

  before_each(function() said = { ok = true } end)

  local function ask(path, asked)
    return fakes.call(application, { path = path, headers = { ["if-none-match"] = asked } })
  end

  it("come with the answer and are the same for the same bytes", function()
    local first, second = ask("/thing"), ask("/thing")
    assert.matches('^W/"[%w_-]+"$', first.headers.etag)
    assert.equal(first.headers.etag, second.headers.etag)
    assert.equal("private, no-cache", first.headers["cache-control"])
    said = { ok = false }
    assert.are_not.equal(first.headers.etag, ask("/thing").headers.etag)
  end)

  it("answer 304 without a body to a caller who has it", function()
    local tag = ask("/thing").headers.etag
    for _, field in ipairs({ tag, tag:sub(3), '"other", ' .. tag, "*", " * " }) do
      local reply = ask("/thing", field)
      assert.same({ 304, tag }, { reply.status, reply.headers.etag })
      assert.is_nil(reply.body)
      assert.is_nil(reply.headers["content-type"])
      assert.truthy(reply.headers["x-request-id"])
      assert.truthy(reply.headers["access-control-allow-origin"])
    end
  end)

  it("answer everything to one who has something else, or says nonsense", function()
    for _, field in ipairs({ '"other"', 'W/"x", "y"', "", "x", '"', ",,", crypto.uuid4() }) do
      assert.same({ 200, { ok = true } }, { ask("/thing", field).status, select(2, ask("/thing", field)) })
    end
  end)

  it("may be the handler's own", function()
    local reply = ask("/own", '"mine"')
    assert.same({ 304, '"mine"', "public" }, { reply.status, reply.headers.etag, reply.headers["cache-control"] })
    assert.equal("text/plain", ask("/own").headers["content-type"])
  end)

  it("are for answers with 200 of routes that ask for it", function()
    assert.is_nil(ask("/made", "*").headers.etag)
    assert.equal(201, ask("/made", "*").status)
    assert.same({ 200, nil }, { ask("/plain", "*").status, ask("/plain").headers.etag })
  end)

  it("match weakly", function()
    assert.is_true(etag.matches('"a"', 'W/"a"'))
    assert.is_true(etag.matches('W/"a"', '"a"'))
    assert.is_false(etag.matches("a", '"a"'))
  end)
end)
