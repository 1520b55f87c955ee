-- The list of known faults of control planes has 48 numbers; a spec that covers one carries it in its name: "P12: ...".

local fs = require("host.fs")

local LAST = 48
local DIRS = { "spec/unit/plane", "spec/unit/http", "spec/integration/plane", "spec/integration/faults" }

describe("known faults of control planes", function()
  it("are each named by a spec", function()
    local named, missing = {}, {}
    for _, dir in ipairs(DIRS) do
      for _, entry in ipairs(assert(fs.list(dir))) do
        local text = entry.name:find("_spec%.lua$") and tostring(assert(fs.read(dir .. "/" .. entry.name))) or ""
        for number in text:gmatch('%("P(%d+): ') do named[tonumber(number)] = true end
      end
    end
    for number = 1, LAST do
      if not named[number] then missing[#missing + 1] = number end
    end
    assert.same({}, missing)
  end)
end)
