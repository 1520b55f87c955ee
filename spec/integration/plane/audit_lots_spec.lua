-- Audit entries that end at the same moment share a transaction; one that cannot be stored costs nobody else's.

local task = require("host.task")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("audit entries of the same moment", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  -- Records one entry per actor at once: { ok, err } of each. (yields)
  local function record(actors)
    local answers = {}
    assert(task.group(function(group)
      for i, actor in ipairs(actors) do
        group:spawn(function()
          answers[i] = { rig.plane.audit:record({ tenant = "default", params = {}, request_id = "r" .. i,
            actor = { id = actor, type = "api-key" }, req = { method = "POST", path = "/lots" } }, "lot.tried") }
        end)
      end
    end))
    return answers
  end

  local function stored()
    local out = {}
    for _, row in ipairs(rig:rows("select actor from audit_log where action = 'lot.tried' order by actor")) do
      out[#out + 1] = row.actor
    end
    rig:rows("delete from audit_log where action = 'lot.tried'")
    return out
  end

  it("are all there, and share transactions", function()
    local actors = {}
    for i = 1, 40 do actors[i] = string.format("actor-%02d", i) end
    for _, answer in ipairs(record(actors)) do assert.is_true(answer[1]) end
    local shared = rig:rows("select count(distinct xmin::text) as n from audit_log where action = 'lot.tried'")[1].n
    assert.is_true(shared < 20, "transactions: " .. shared)
    assert.same(actors, stored())
  end)

  it("fail alone, whether the database refuses one or never sees it", function()
    rig:rows("alter table audit_log add constraint poison check (actor is distinct from 'poison')")
    local answers = record({ "ann", "poison", "bob", "with \0 nul", "cy" })
    rig:rows("alter table audit_log drop constraint poison")
    for i, answer in ipairs(answers) do assert.equal(i % 2 == 1, answer[1] == true, i) end
    assert.same({ "ann", "bob", "cy" }, stored())
  end)

  it("are still written when the worker has ended", function()
    rig.plane.audit.gather.closed = true
    assert.truthy(record({ "late" })[1][1])
    rig.plane.audit.gather.closed = false
    assert.same({ "late" }, stored())
  end)
end)
