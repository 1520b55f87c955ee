-- Every route of the plane, as data.

local app = require("macp.http.app")
local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")

-- POST routes that change nothing, or only in the process, and so need no audit entry.
local ASKING = { ["POST /runs/validate"] = true, ["POST /runs/compare"] = true, ["POST /runs/:id/replay"] = true,
  ["POST /runs/batch/export"] = true }

-- Stands for the role: every field is a table like it, so that route files can take what they need from it.
local function anything()
  return setmetatable({}, { __index = function(t, key)
    local value = anything()
    rawset(t, key, value)
    return value
  end, __call = function() return anything() end })
end

local function all_routes()
  local routes = {}
  for _, path in ipairs(require("pl.dir").getfiles("lua/macp/plane/routes", "*.lua")) do
    local name = path:match("([%w_]+)%.lua$")
    local file = require("macp.plane.routes." .. name)
    if type(file) == "table" and file.routes then
      for _, route in ipairs(file.routes(anything())) do routes[#routes + 1] = route end
    end
  end
  return routes
end

describe("the plane's routes", function()
  local routes, application

  setup(function()
    routes = all_routes()
    application = app.new({ metrics = metrics.new(), config = {} })
    application:mount(routes)
  end)

  it("are there", function() assert.is_true(#routes >= 15) end)

  it("say what they are, who may call them and what they return", function()
    for _, route in ipairs(routes) do
      local name = route.method .. " " .. route.path
      assert.truthy(route.summary:find("^%u"), name .. ": summary")
      assert.truthy(route.tag, name .. ": tag")
      assert.truthy(route.public or route.scope:find("^%l[%l_]*:%l+$"), name .. ": scope")
      assert.truthy(next(route.returns), name .. ": returns")
    end
  end)

  it("are described in JSON Schema: lists are lists", function()
    local function walk(value, path)
      if type(value) ~= "table" then return end
      for key, inner in pairs(value) do
        local is_schema_list = (key == "required" and type(inner) == "table") or key == "anyOf" or key == "oneOf"
        if is_schema_list and not path:find("/properties$") then
          assert.is_true(#inner > 0 or json.is_array(inner), path .. "/" .. key)
        end
        walk(inner, path .. "/" .. tostring(key))
      end
    end
    walk(json.decode(json.canonical(application:openapi())), "")
  end)

  it("leave an audit entry when they change something", function()
    for _, route in ipairs(routes) do
      local name = route.method .. " " .. route.path
      local changes = route.method ~= "GET" and not ASKING[name] and route.returns[410] == nil
      if changes then assert.truthy(route.audit and route.audit:find("^[%l_]+%.[%l_]+$"), name .. ": audit") end
    end
  end)

  it("P18: refuse unknown fields in every body", function()
    for _, route in ipairs(routes) do
      if route.body then
        assert.is_false(route.body.additionalProperties, route.method .. " " .. route.path .. ": additionalProperties")
      end
    end
  end)

  it("answer probes of the machine without a key or a limit", function()
    local open = {}
    for _, route in ipairs(routes) do
      if route.public and route.rate == "none" then open[#open + 1] = route.path end
    end
    table.sort(open)
    assert.same({ "/healthz", "/metrics", "/readyz" }, open)
    for _, route in ipairs(routes) do
      if route.public then assert.truthy(route.rate == "none", route.path) end
    end
  end)

  it("make an OpenAPI document with an operation each", function()
    local count, seen = 0, {}
    for _, methods in pairs(application:openapi().paths) do
      for _, operation in pairs(methods) do
        count = count + 1
        assert.is_nil(seen[operation.operationId], operation.operationId)
        seen[operation.operationId] = true
      end
    end
    local shown = 0
    for _, route in ipairs(routes) do shown = shown + (route.hidden and 0 or 1) end
    assert.equal(shown, count)
  end)
end)
