-- Two planes over one database, in processes of their own: one is killed, or sleeps over its lease and wakes up again.

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local takeover = require("spec.support.takeover")

local RUNS = 20
local TAKEOVER_MS = 35000

describe("the runs of a plane", function()
  local two

  before_each(function()
    two = takeover.start({ runs = RUNS })
    two:talk()
    two:await_stored(30000)
  end)
  after_each(function() two:close() end)

  local function all_owned_by_other(name)
    return eventually(function()
      local owners = two:owners()
      for owner, n in pairs(owners) do
        if owner ~= name and owner ~= "" and n == RUNS then return owner end
      end
      return nil, json.encode(owners)
    end, TAKEOVER_MS, "the other plane owns all")
  end

  it("that is killed are gone on with by another one: nothing is lost, nothing comes twice", function()
    local first = next(two:owners())
    two.a.program:crash()
    two:talk()
    all_owned_by_other(first)
    two:talk()
    two:await_stored(30000)
    assert.same({}, two:faults())
  end)

  it("that sleeps over its lease are lost to it: what it has in its hands when it wakes up is not stored", function()
    local first = next(two:owners())
    two.a.program:kill("STOP")
    two:talk() -- these wait in the sleeper's connections
    two.system:rows("update plane_leases set expires_at = now() - interval '1 s' where owner = $1", first)
    local second = all_owned_by_other(first)
    two:talk()
    two.a.program:kill("CONT")
    two:talk()
    two:await_stored(60000)
    assert.same({}, two:faults())
    assert.same({ [second] = RUNS }, two:owners())
    -- Reads of the one that lost them are right, too.
    for i = 1, RUNS, 7 do
      eventually(function()
        local mine, theirs = takeover.get(two.a, "/runs/" .. two.ids[i] .. "/state"),
          takeover.get(two.b, "/runs/" .. two.ids[i] .. "/state")
        return json.canonical(mine) == json.canonical(theirs)
      end, 30000, "the same state")
    end
    assert.same({}, two:faults())
  end)
end)
