-- `macp migrate` against a real database.

local pg = require("host.pg")

local migrate = require("macp.store.migrate")

local postgres = require("spec.support.postgres")
local program = require("spec.support.program")

describe("macp migrate", function()
  local conninfo, stop

  setup(function() conninfo, stop = postgres.database() end)
  teardown(function() stop() end)

  local function run(...)
    local child = program.start({ args = { "migrate", ... }, env = { DATABASE_URL = conninfo } })
    local status = child:wait(20000)
    return status.code, child:output()
  end

  it("tells what is missing, applies it once, and then has nothing to do", function()
    local code, output = run("--status")
    assert.equal(1, code, output)
    assert.truthy(output:find("0 applied, %d+ missing"), output)
    code, output = run()
    assert.equal(0, code, output)
    assert.truthy(output:find("applied 0001_", 1, true), output)
    code, output = run()
    assert.equal(0, code, output)
    assert.truthy(output:find("nothing to do", 1, true), output)
    code, output = run("--status")
    assert.equal(0, code, output)
    assert.truthy(output:find("%d+ applied, 0 missing"), output)
  end)

  it("lets several processes run at once", function()
    local url, stop_other = postgres.database()
    local children = {}
    for i = 1, 3 do children[i] = program.start({ args = { "migrate" }, env = { DATABASE_URL = url } }) end
    for _, child in ipairs(children) do
      local status = child:wait(30000)
      assert.equal(0, status.code, child:output())
    end
    local db = assert(pg.open({ conninfo = url, size = 1 }))
    local result = assert(db:query("select count(*) as n, count(distinct name) as names from _migrations"))
    db:close()
    stop_other()
    assert.is_true(result.rows[1].n >= 1)
    assert.equal(result.rows[1].n, result.rows[1].names)
  end)

  it("says what to do when an extension can neither be found nor created", function()
    local db = assert(pg.open({ conninfo = conninfo, size = 2 }))
    local function failure(file)
      local names, err = migrate.run(db, { file })
      assert.is_nil(names)
      return err.message
    end
    local message = failure({ name = "9001_a.sql", text = "create extension if not exists no_such_thing;" })
    assert.truthy(message:find("migration 9001_a.sql, statement 1 needs the extension no_such_thing", 1, true), message)
    assert.truthy(message:find("; install the contrib modules of PostgreSQL on the database server", 1, true), message)
    db:close()
  end)

  it("fails with the reason and without the password when there is no database", function()
    local child = program.start({
      args = { "migrate" }, env = { DATABASE_URL = "postgres://u:geheim@127.0.0.1:1/none" },
    })
    local status = child:wait(20000)
    assert.equal(1, status.code)
    assert.truthy(child:output():find("postgres://u:********@127.0.0.1:1/none", 1, true), child:output())
    assert.is_nil(child:output():find("geheim", 1, true))
    assert.equal(1, #child.lines, child:output())
    assert.truthy(child:output():find("Connection refused Is the server running", 1, true), child:output())
    assert.truthy(child:output():find(" DATABASE_URL names the database.", 1, true), child:output())
  end)
end)
