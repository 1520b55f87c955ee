-- A database whose account may not create the extension pg_trgm, or whose server has not got it: everything works, and
-- searches find the same, without the indexes of that extension. Once it is there `macp migrate` builds the indexes.

local crypto = require("host.crypto")
local pg = require("host.pg")

local migrate = require("macp.store.migrate")
local run_list = require("macp.store.run_list")

local plane_rig = require("spec.support.plane_rig")
local program = require("spec.support.program")

local INDEXES = { "run_entries_id_idx", "run_words_word_idx" }

-- What keeps the extension away, and how the remedy is called.
local CASES = {
  ["may not create the extension"] = { remedy = "let the owner of the database or a superuser run "
    .. "`create extension pg_trgm` in it", cause = "permission denied" },
  ["has a server without the extension"] = { is_absent = true, cause = "is not available",
    remedy = "install the contrib modules of PostgreSQL on the database server" },
}

local ABSENT = [[
create function not_available() returns event_trigger language plpgsql as $$
begin
  raise exception using errcode = '0A000', message = 'extension "pg_trgm" is not available';
end $$;
create event trigger no_extension on ddl_command_start when tag in ('CREATE EXTENSION')
  execute function not_available()]]

for words, case in pairs(CASES) do
  describe("an account that " .. words, function()
    local rig, url

    setup(function()
      rig = plane_rig.start({ settings = { fsync = "off" }, no_plane = true })
      url = rig.url:gsub("user=%S+", "user=someone")
      assert(url ~= rig.url)
      rig:rows("create role someone login")
      rig:rows("grant all on schema public to someone")
      if case.is_absent then
        rig:rows(("grant create on database %s to someone"):format(rig.url:match("dbname=(%S+)")))
        assert(rig.db:script(ABSENT))
      end
    end)
    teardown(function() rig:destroy() end)

    local function run(...)
      local child = program.start({ args = { "migrate", ... }, env = { DATABASE_URL = url } })
      local status = child:wait(60000)
      return status.code, child:output()
    end

    local function says(output, text) assert.truthy(output:find(text, 1, true), output) end

    local function all_indexed(is_there)
      for _, name in ipairs(INDEXES) do
        assert.equal(is_there, rig:rows("select to_regclass($1) is not null as is_there", name)[1].is_there, name)
      end
    end

    local function all_missing(output, rest)
      for _, name in ipairs(INDEXES) do says(output, "without the index " .. name .. rest) end
    end

    it("brings the database to the schema, and tells what is missing and why", function()
      local code, output = run()
      assert.equal(0, code, output)
      says(output, '"event":"migration.without_extension"')
      says(output, case.cause)
      all_missing(output, ", which needs the extension pg_trgm: searches are slower")
      says(output, case.remedy)
      all_indexed(false)
      code, output = run("--status")
      assert.equal(0, code, output)
      says(output, ", 0 missing")
      all_missing(output, "")
      code, output = run()
      assert.equal(0, code, output)
      all_missing(output, "")
    end)

    it("has every other index", function()
      local function indexes(db)
        local found = {}
        local result = assert(db:query("select indexname from pg_indexes where schemaname = 'public' order by 1"))
        for i, row in ipairs(result.rows) do found[i] = row.indexname end
        return found
      end
      rig:rows("create database whole")
      local whole_url = rig.url:gsub("dbname=%S+", "dbname=whole")
      assert(migrate.upgrade(whole_url, "spec"))
      local whole = assert(pg.open({ conninfo = whole_url, size = 1 }))
      local wanted = {}
      for _, name in ipairs(indexes(whole)) do
        if name ~= INDEXES[1] and name ~= INDEXES[2] then wanted[#wanted + 1] = name end
      end
      whole:close()
      assert.same(wanted, indexes(rig.db))
    end)

    it("serves searches that find texts within texts", function()
      local real_url = rig.url
      rig.url = url
      rig.plane = rig:start_plane()
      rig.url = real_url
      local id = crypto.uuid4()
      local body = plane_rig.descriptor(id)
      body.session.metadata = { scenarioRef = "billing/refund@2", environment = "staging" }
      local status, accepted = rig:post("/runs", body)
      assert.equal(202, status)
      rig:play(id)
      rig:await(accepted.runId, "completed", 20000)
      for _, query in ipairs({ "search=ing/refu", "search=STAGING", "scenarioRef=refund" }) do
        local code, page = rig:get("/runs?" .. query)
        assert.same({ 200, 1, accepted.runId }, { code, page.total, page.data[1] and page.data[1].id }, query)
      end
      local _, none = rig:get("/runs?search=nowhere")
      assert.same({ 0, 0 }, { none.total, #none.data })
    end)

    it("gets the indexes once the extension is there", function()
      if case.is_absent then rig:rows("drop event trigger no_extension") else rig:rows("create extension pg_trgm") end
      local code, output = run()
      assert.equal(0, code, output)
      for _, name in ipairs(INDEXES) do says(output, "built the index " .. name) end
      all_indexed(true)
      code, output = run()
      assert.equal(0, code, output)
      says(output, "nothing to do: the database is at the current schema")
      local query = { search = "ing/refu", include_sandbox = true, include_archived = true, sort_by = "createdAt",
        sort_order = "desc", limit = 10, offset = 0 }
      local page = assert(run_list.page(rig.db, "default", query))
      assert.equal(1, page.total)
    end)
  end)
end
