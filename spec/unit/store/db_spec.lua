-- What failed statements mean for callers.

local db = require("macp.store.db")

local function failed(fields)
  fields.code, fields.message = fields.code or "PG", fields.message or "the server's words"
  local _, err = db.fail(fields)
  return { err.http, err.code, err.message }
end

local MEANINGS = {
  { "no connection", { code = "UNAVAILABLE" }, { 503, "SERVICE_UNAVAILABLE", "the database does not answer" } },
  { "no free connection", { code = "TIMEOUT" }, { 503, "SERVICE_UNAVAILABLE", "the database does not answer" } },
  { "a statement that takes too long", { sqlstate = "57014" },
    { 503, "SERVICE_UNAVAILABLE", "the database took too long" } },
  { "a lock that others keep", { sqlstate = "55P03" },
    { 503, "SERVICE_UNAVAILABLE", "what this needs stayed locked for too long" } },
  { "a deadlock", { sqlstate = "40P01" }, { 503, "SERVICE_UNAVAILABLE", "others changed the same at the same time" } },
  { "a transaction that cannot be put in order", { sqlstate = "40001" },
    { 503, "SERVICE_UNAVAILABLE", "others changed the same at the same time" } },
  { "a full disk", { sqlstate = "53100" }, { 503, "SERVICE_UNAVAILABLE", "the database is out of resources" } },
  { "too many connections", { sqlstate = "53300" },
    { 503, "SERVICE_UNAVAILABLE", "the database is out of resources" } },
  { "a run that was deleted", { sqlstate = "23503", message = "violates run_events_run_id_fkey" },
    { 404, "RUN_NOT_FOUND", "the run was deleted meanwhile" } },
  { "another parent that was deleted", { sqlstate = "23503", message = "violates other_fkey" },
    { 404, "NOT_FOUND", "what this belongs to was deleted meanwhile" } },
  { "anything else", { sqlstate = "42P01" }, { 500, "INTERNAL_ERROR", "database: the server's words" } },
}

describe("the typed error of", function()
  for _, case in ipairs(MEANINGS) do
    it(case[1], function() assert.same(case[3], failed(case[2])) end)
  end

  it("transactions that got in each other's way can be told from others", function()
    for sqlstate, expected in pairs({ ["40P01"] = true, ["40001"] = true, ["57014"] = false, ["42P01"] = false }) do
      local _, err = db.fail({ code = "PG", sqlstate = sqlstate, message = "x" })
      assert.equal(expected, db.is_collision(err))
    end
    assert.is_false(db.is_collision(select(2, db.fail({ code = "TIMEOUT", message = "x" }))))
  end)

  it("a wait that was cancelled stays what it is", function()
    local given = { code = "CANCELLED", message = "the query was cancelled" }
    assert.equal(given, select(2, db.fail(given)))
  end)

  it("the host's error keeps it as its cause", function()
    local given = { code = "PG", sqlstate = "57014", message = "canceling statement" }
    assert.equal(given, select(2, db.fail(given)).cause)
  end)
end)
