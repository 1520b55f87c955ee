local app = require("macp.http.app")
local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")

local fakes = require("spec.unit.http.fakes")

describe("openapi", function()
  local application = app.new({ title = "Test", version = "1.2.3", metrics = metrics.new() })
  application:mount({
    {
      method = "GET", path = "/runs/:id", scope = "runs:read", tag = "runs", summary = "One run",
      query = { type = "object", properties = {
        limit = { type = "integer", default = 5, description = "How many." },
      } },
      returns = { [200] = "Run" }, handler = function() end,
    },
    {
      method = "POST", path = "/runs/:id/cancel", scope = "runs:write", summary = "Cancel",
      body = { type = "object", required = { "sid" }, additionalProperties = false, properties = {
        sid = { type = "string", format = "session-id" },
        list = { type = "array", uniqueItems = "id", items = { type = "object" } },
      } },
      returns = { [200] = { type = "object" }, [204] = "nothing" }, handler = function() end,
    },
    { method = "GET", path = "/healthz", public = true, summary = "Alive?", rate = "none",
      returns = { [200] = { type = "object" } }, handler = function() return 200, {} end },
  })
  application:mount_docs()
  local document = application:openapi()

  it("names version, title and every route", function()
    assert.same({ "3.1.0", "Test", "1.2.3" }, { document.openapi, document.info.title, document.info.version })
    for path, method in pairs({ ["/runs/{id}"] = "get", ["/runs/{id}/cancel"] = "post", ["/healthz"] = "get",
      ["/docs-json"] = "get" }) do
      assert.truthy(document.paths[path][method], path)
    end
  end)

  it("tells which refusals a route has", function()
    local function statuses(path, method)
      local list = {}
      for status in pairs(document.paths[path][method].responses) do list[#list + 1] = status end
      table.sort(list)
      return table.concat(list, " ")
    end
    assert.equal("200 400 401 403 404 414 429 503 default", statuses("/runs/{id}", "get"))
    assert.equal("200 204 400 401 403 404 413 414 415 429 503 default", statuses("/runs/{id}/cancel", "post"))
    assert.equal("200 400 414 default", statuses("/healthz", "get"))
    assert.same({ { url = "/" } }, document.servers)
  end)

  it("describes parameters", function()
    local parameters = document.paths["/runs/{id}"].get.parameters
    assert.same({ "id", "path", true, "uuid" },
      { parameters[1].name, parameters[1]["in"], parameters[1].required, parameters[1].schema.format })
    assert.same({ "limit", "query", false, 5, "How many." }, { parameters[2].name, parameters[2]["in"],
      parameters[2].required, parameters[2].schema.default, parameters[2].description })
  end)

  it("describes bodies in plain JSON Schema", function()
    local body = document.paths["/runs/{id}/cancel"].post.requestBody
    local schema = body.content["application/json"].schema
    assert.is_true(body.required)
    assert.is_nil(schema.properties.sid.format)
    assert.is_true(schema.properties.list.uniqueItems)
    assert.is_false(schema.additionalProperties)
  end)

  it("tells public routes from guarded ones", function()
    assert.same({}, document.paths["/healthz"].get.security)
    assert.is_nil(document.paths["/runs/{id}"].get.security)
    assert.equal("runs:read", document.paths["/runs/{id}"].get["x-scope"])
  end)

  it("has no content for 204 and a unique operation id everywhere", function()
    assert.is_nil(document.paths["/runs/{id}/cancel"].post.responses["204"].content)
    local seen = {}
    for _, methods in pairs(document.paths) do
      for _, operation in pairs(methods) do
        assert.is_nil(seen[operation.operationId])
        seen[operation.operationId] = true
      end
    end
  end)

  it("is served without a key and keeps empty arrays", function()
    local reply, body = fakes.call(application, { path = "/docs-json" })
    assert.equal(200, reply.status)
    assert.equal("3.1.0", body.openapi)
    assert.truthy(reply.body:find('"security":[]', 1, true))
    assert.truthy(json.is_array(body.paths["/healthz"].get.parameters))
  end)
end)
