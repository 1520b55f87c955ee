-- The price list: what it says, what is refused, and how its changes are followed.

local fs = require("host.fs")
local crypto = require("host.crypto")

local prices = require("macp.plane.prices")

local eventually = require("spec.support.eventually")

local HEAD = '{"date":"2026-01-31","currency":"USD","perTokens":1000000,"models":'
local LIST = HEAD .. '{"fast":{"prompt":1,"completion":2},"fast-large":{"prompt":10,"completion":20}}}'

local function in_use(text)
  local list = prices.none()
  list:use(assert(prices.parse(text)))
  return list
end

describe("a price list", function()
  it("prices a model by its name or the longest name it starts with", function()
    local list = in_use(LIST)
    for model, usd in pairs({ fast = 5, ["fast-2026"] = 5, ["fast-large"] = 50, ["fast-large-v2"] = 50 }) do
      local cost, date = list:estimate(model, 1000000, 2000000)
      assert.near(usd, cost, 1e-9, model)
      assert.equal("2026-01-31", date)
    end
  end)

  it("prices nothing else", function()
    local list = in_use(LIST)
    for _, model in ipairs({ "fas", "slow", "" }) do assert.is_nil((list:estimate(model, 10, 10))) end
    assert.is_nil((list:estimate(nil, 10, 10)))
    assert.is_nil((prices.none():estimate("fast", 10, 10)))
  end)

  it("prices what is not on it, or has no name, as it says", function()
    local list = in_use((LIST:gsub("}$", ',"default":{"prompt":3,"completion":4}}')))
    for _, model in ipairs({ "slow", "" }) do assert.near(11, list:estimate(model, 1000000, 2000000), 1e-9) end
    local cost, date = list:estimate(nil, 1000000, 2000000)
    assert.near(11, cost, 1e-9)
    assert.equal("2026-01-31", date)
    assert.near(5, list:estimate("fast", 1000000, 2000000), 1e-9)
    list:use(assert(prices.parse(LIST)))
    assert.is_nil((list:estimate("slow", 10, 10)))
  end)

  it("of the examples can be read", function()
    local list = assert(prices.parse((assert(fs.read("examples/model-costs.json")))))
    assert.same({ 2.5 / 1e6, 10 / 1e6 }, list.rates["gpt-4o"])
  end)

  for text, reason in pairs({
    ["{"] = "is not JSON: ",
    ["[]"] = "must be a JSON object",
    ['{"currency":"USD"}'] = "date must be a day like 2026-01-31",
    ['{"date":"31.1.2026"}'] = "date must be a day like 2026-01-31",
    ['{"date":"2026-01-31","currency":"EUR"}'] = 'currency must be "USD": costs are told in it',
    ['{"date":"2026-01-31","currency":"USD","models":{}}'] =
      "perTokens must be the number of tokens that the prices are for, like 1000000",
    ['{"date":"2026-01-31","currency":"USD","perTokens":1000,"models":[1]}'] =
      "models must be an object of model names",
    ['{"dates":"2026-01-31"}'] = "has the unknown field dates",
    [HEAD .. '{"m":3}}'] = "models.m must be an object with prompt and completion",
    [HEAD .. '{"m":{"prompt":1,"completion":-2}}}'] = "models.m.completion must be a number that is not negative",
    [HEAD .. '{},"default":3}'] = "default must be an object with prompt and completion",
    [HEAD .. '{},"default":{"prompt":"1","completion":2}}'] = "default.prompt must be a number that is not negative",
    [HEAD .. '{"m":{"completion":2}}}'] = "models.m.prompt must be a number that is not negative",
    [HEAD .. '{"m":{"prompt":1,"completion":2,"cached":1}}}'] = "models.m has the unknown field cached",
  }) do
    it("is refused: " .. text, function()
      local list, why = prices.parse(text)
      assert.is_nil(list)
      assert.equal(reason, why:sub(1, #reason))
    end)
  end

  it("is followed while it changes; a broken one leaves the last good one in use", function()
    local path = "/tmp/macp-prices-" .. crypto.uuid4() .. ".json"
    assert(fs.write(path, LIST))
    local list = assert(prices.open(path))
    finally(function()
      list:close()
      fs.remove(path)
    end)
    assert.equal("2026-01-31", list.date)
    list.file.ticker:stop()
    list.file.period_ms = 10
    list.file:watch(list.file.on_change)
    assert(fs.write(path, "{ broken"))
    eventually(function() return list.rejected ~= nil end, 3000, "the broken list is noticed")
    assert.near(1e-6, list:estimate("fast", 1, 0), 1e-12)
    assert(fs.write(path, (LIST:gsub("2026%-01%-31", "2026-02-28"):gsub('"prompt":1,', '"prompt":3,'))))
    eventually(function() return list.date == "2026-02-28" end, 3000, "the new list is in use")
    assert.near(3e-6, list:estimate("fast", 1, 0), 1e-12)
    assert.is_nil(list.rejected)
  end)

  it("that cannot be read stops the start and names the setting", function()
    local opened, err = prices.open("/nowhere/costs.json")
    assert.is_nil(opened)
    assert.truthy(err.message:find("^MACP_MODEL_COSTS_FILE: /nowhere/costs.json: "), err.message)
    assert.equal("VALIDATION_ERROR", err.code)
  end)
end)
