-- host.pg against a real server: values and queries. Uses the database of TEST_DATABASE_URL or a private cluster.

local json = require("host.json")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local pg_pool = require("spec.support.pg_pool")
local postgres = require("spec.support.postgres")

describe("host.pg", function()
  local conninfo, stop, pool

  setup(function() conninfo, stop = postgres.database() end)
  teardown(function() stop() end)

  local function open(extra)
    pool = pg_pool.open(conninfo, extra)
    return pool
  end

  local function value(...) return pg_pool.value(pool, ...) end

  before_each(function() open() end)
  after_each(function()
    pool:close()
    pool = nil
  end)

  describe("values", function()
    it("come back with the type of their column", function()
      local row = assert(pool:query([[select 1::int2 as i2, -2::int4 as i4, 9007199254740992::int8 as i8,
        9007199254740993::int8 as big, 1.5::float4 as f4, 0.1::float8 as f8, 'NaN'::float8 as nan,
        12.50::numeric as num, 123456789012345678.5::numeric as exact, true as t, false as f,
        '\x00ff41'::bytea as b, ''::bytea as nothing, '2026-01-31 23:59:59.123+02'::timestamptz as ts,
        '1969-12-31 23:59:59.5Z'::timestamptz as early, 'infinity'::timestamptz as never,
        '{"a": 1}'::jsonb as j, array[1,2] as a, 'text'::text as s, '00000000-0000-0000-0000-000000000001'::uuid as u,
        null::int4 as missing, date '2026-02-03' as d]])).rows[1]
      assert.equal(1, row.i2)
      assert.equal(-2, row.i4)
      assert.equal(9007199254740992, row.i8)
      assert.equal("9007199254740993", row.big)
      assert.equal(1.5, row.f4)
      assert.equal(0.1, row.f8)
      assert.is_true(row.nan ~= row.nan)
      assert.equal(12.5, row.num)
      assert.equal("123456789012345678.5", row.exact)
      assert.is_true(row.t)
      assert.is_false(row.f)
      assert.equal("\0\255A", row.b)
      assert.equal("", row.nothing)
      assert.equal(1769896799123, row.ts)
      assert.equal(-500, row.early)
      assert.equal(math.huge, row.never)
      assert.equal('{"a": 1}', row.j)
      assert.equal("{1,2}", row.a)
      assert.equal("text", row.s)
      assert.equal("00000000-0000-0000-0000-000000000001", row.u)
      assert.is_nil(row.missing)
      assert.equal("2026-02-03", row.d)
    end)

    it("go in as they are", function()
      assert.equal(7, value("select $1::int4 as v", 7))
      assert.equal(-9007199254740992, value("select $1::int8 as v", -9007199254740992))
      assert.equal(0.1, value("select $1::float8 as v", 0.1))
      assert.equal(1 / 3, value("select $1::float8 as v", 1 / 3))
      assert.equal(math.huge, value("select $1::float8 as v", math.huge))
      assert.is_true(value("select $1::bool as v", true))
      assert.is_nil(value("select $1::text as v", nil))
      assert.is_nil(value("select $1::text as v", json.null))
      assert.equal("it's \\ \"fine\" $1", value("select $1::text as v", "it's \\ \"fine\" $1"))
      assert.equal("\0\1\255", value("select $1::bytea as v", pg.bytea("\0\1\255")))
      assert.equal("\0x", value("select $1::bytea as v", require("host.bytes").new("\0x")))
      assert.equal(1769903999123, value("select $1::timestamptz as v", pg.ts(1769903999123)))
      assert.equal(-1, value("select $1::timestamptz as v", pg.ts(-1)))
      assert.equal("0001-01-01", value("select to_char($1::timestamptz, 'YYYY-MM-DD') as v", pg.ts(-62135596800000)))
      assert.equal('{a,"b,c",NULL,"say \\"x\\" \\\\"}',
        value("select $1::text[] as v", pg.array({ "a", "b,c", json.null, 'say "x" \\' })))
      assert.equal(6, value("select (select sum(x) from unnest($1::int[]) x)::int as v", pg.array({ 1, 2, 3 })))
      assert.equal("{}", value("select $1::text[] as v", pg.array({})))
    end)

    it("may be large", function()
      local big = ("0123456789abcdef"):rep(65536)
      assert.equal(big, value("select $1::text as v", big))
      assert.equal(big, value("select $1::bytea as v", pg.bytea(big)))
    end)

    it("are refused when they have no SQL form", function()
      local _, err = pool:query("select $1::text", { "a\0b" })
      assert.equal("INVALID", err.code)
      assert.has_error(function() pool:query("select $1", { {} }) end)
      assert.has_error(function() pool:query("select $1", { print }) end)
      assert.equal("INVALID", select(2, pool:query("select $1::text[]", { pg.array({ {} }) })).code)
    end)

    it("keep every row and column of a large result", function()
      local result = assert(pool:query([[select i, i * 2 as twice, repeat('x', i % 50) as s
        from generate_series(1, 5000) i]]))
      assert.equal(5000, #result.rows)
      assert.equal(5000, result.n)
      for i, row in ipairs(result.rows) do
        if row.i ~= i or row.twice ~= 2 * i or #row.s ~= i % 50 then error("row " .. i .. " is wrong") end
      end
    end)
  end)

  describe("query", function()
    it("tells how many rows were changed", function()
      assert(pool:query("create temporary table counted (a int)"))
      assert.equal(3, assert(pool:query("insert into counted select * from generate_series(1, $1)", { 3 })).n)
      assert.equal(2, assert(pool:query("update counted set a = 0 where a > 1")).n)
      assert.same({ rows = {}, n = 0 }, assert(pool:query("select a from counted where a > 5")))
      assert(pool:query("drop table counted"))
    end)

    it("reports what the server said", function()
      assert(pool:query("create table strict (id int primary key, a int constraint positive check (a > 0))"))
      assert(pool:query("insert into strict values (1, 1)"))
      local _, err = pool:query("insert into strict values (1, 2)")
      assert.equal("PG", err.code)
      assert.equal("23505", err.sqlstate)
      assert.equal("strict_pkey", err.constraint)
      assert.equal("strict", err.table)
      assert.matches("Key (id)=(1) already exists", err.detail, 1, true)
      _, err = pool:query("insert into strict values (2, $1)", { -1 })
      assert.equal("23514", err.sqlstate)
      assert.equal("positive", err.constraint)
      _, err = pool:query("select nonsense from strict")
      assert.equal("42703", err.sqlstate)
      assert.equal(8, err.position)
      assert.matches("nonsense", err.message)
      _, err = pool:query("select $1::int", { "abc" })
      assert.equal("22P02", err.sqlstate)
      assert(pool:query("drop table strict"))
    end)

    it("reports the same for a bad text every time, also when several are in flight", function()
      local states = {}
      task.group(function(group)
        for i = 1, 6 do
          group:spawn(function()
            local _, err = pool:query("selec 1")
            states[i] = err.sqlstate
          end)
        end
      end)
      assert.same({ "42601", "42601", "42601", "42601", "42601", "42601" }, states)
      assert.equal("42601", select(2, pool:query("selec 1")).sqlstate)
      assert.equal(1, value("select 1 as v"))
    end)

    it("prepares a statement again when its result type has changed", function()
      assert(pool:query("create table shifting (a int)"))
      assert(pool:query("select * from shifting"))
      assert(pool:query("alter table shifting add b text"))
      local first, err = pool:query("select * from shifting")
      if not first then assert.equal("0A000", err.sqlstate) end
      assert(pool:query("select * from shifting"))
      assert(pool:query("drop table shifting"))
    end)

    it("forgets the least recently used of many statements", function()
      for i = 1, 600 do assert.equal(i, value(("select %d as v, 'distinct %d'"):format(i, i))) end
      assert.equal(1, value("select 1 as v, 'distinct 1'"))
      local known = value("select count(*)::int as v from pg_prepared_statements")
      assert.is_true(known <= 257, "the server knows " .. known)
    end)

    it("times out slow statements and waits for locks", function()
      pool:close()
      open({ statement_timeout_ms = 100, lock_timeout_ms = 50 })
      local _, err = pool:query("select pg_sleep(5)")
      assert.equal("57014", err.sqlstate)
      assert(pool:query("create table locked (a int)"))
      local waited
      assert(pool:tx(function(tx)
        assert(tx:query("lock table locked"))
        waited = select(2, pool:query("select * from locked"))
        return true
      end))
      assert.equal("55P03", waited.sqlstate)
      assert(pool:query("drop table locked"))
    end)

    it("limits the size of results and survives it", function()
      pool:close()
      open({ max_result_bytes = 100000, size = 1 })
      local _, err = pool:query("select repeat('x', 1000) from generate_series(1, 1000000)")
      assert.equal("LIMIT", err.code)
      assert.equal(1, value("select 1 as v"))
    end)

    it("sets the session up", function()
      assert.equal("UTC", value("select current_setting('timezone') as v"))
      assert.equal("macp", value("select current_setting('application_name') as v"))
      assert.equal("30s", value("select current_setting('statement_timeout') as v"))
      assert.equal("5s", value("select current_setting('lock_timeout') as v"))
      assert.equal("30s", value("select current_setting('idle_in_transaction_session_timeout') as v"))
      assert.equal("on", value("select current_setting('standard_conforming_strings') as v"))
    end)

    it("is cancelled with its task, on the server too", function()
      local started = sys.mono_ms()
      local sleeper = task.spawn(function() return pool:query("select pg_sleep(120) /* cancel me */") end)
      eventually(function()
        return value([[select count(*)::int as v from pg_stat_activity
          where query like '%cancel me%' and query not like '%pg_stat%']]) == 1
      end)
      sleeper:cancel()
      local result, err = sleeper:join()
      assert.is_nil(result)
      assert.equal("CANCELLED", err.code)
      eventually(function()
        return value([[select count(*)::int as v from pg_stat_activity
          where state = 'active' and query like '%cancel me%' and query not like '%pg_stat%']]) == 0
      end)
      assert.is_true(sys.mono_ms() - started < 100000)
      local ok, late = task.with_deadline(50, function() return pool:query("select pg_sleep(20)") end)
      assert.is_nil(ok)
      assert.equal("TIMEOUT", late.code)
      for i = 1, 20 do assert.equal(i, value("select $1::int as v", i)) end
    end)

    it("does not let neighbours suffer from a cancelled one", function()
      pool:close()
      open({ size = 1 })
      assert.equal(1, value("select 1 as v"))
      local answers = {}
      task.group(function(group)
        for i = 1, 30 do
          group:spawn(function()
            local one = task.spawn(function() return pool:query("select pg_sleep(0.002)") end)
            task.sleep(i % 5)
            one:cancel()
            one:join()
          end)
          group:spawn(function()
            answers[i] = assert(pool:query("select $1::int as v", { i })).rows[1].v
          end)
        end
      end)
      for i = 1, 30 do assert.equal(i, answers[i]) end
    end)
  end)

  describe("batch", function()
    it("is one transaction that tells which statement failed", function()
      assert(pool:query("create table batched (a int unique)"))
      local results = assert(pool:batch({
        { "insert into batched values ($1), ($2)", { 1, 2 } },
        { "select a from batched order by a" },
        { "delete from batched where a = $1", { 1 } },
      }))
      assert.equal(2, results[1].n)
      assert.same({ { a = 1 }, { a = 2 } }, results[2].rows)
      assert.equal(1, results[3].n)
      local failed, err = pool:batch({
        { "insert into batched values (10)" },
        { "insert into batched values (2)" },
        { "insert into batched values (11)" },
      })
      assert.is_nil(failed)
      assert.equal(2, err.index)
      assert.equal("23505", err.sqlstate)
      assert.equal(1, value("select count(*)::int as v from batched"))
      assert.same({}, assert(pool:batch({})))
      assert(pool:query("drop table batched"))
    end)
  end)
end)
