-- Who is told of statements and transactions: whoever the pool was opened for, and nobody else.

local observed_pool = require("macp.store.observed_pool")

-- A pool of the host, as far as it is asked here.
local function native(fails)
  local pool = { closed = 0 }
  function pool.query(_, text, params)
    if fails then return nil, { code = "PG", message = "no" } end
    return { rows = { { text = text, n = params.n } } }
  end
  function pool.tx(_, fn) return fn(pool) end
  function pool.batch(_, list) return list end
  function pool.close() pool.closed = pool.closed + 1 end
  return pool
end

local function listening(fails)
  local heard, host = {}, native(fails)
  local pool = observed_pool.new(host, function(op, ms)
    assert.is_true(ms >= 0)
    heard[#heard + 1] = op
  end)
  return pool, heard, host
end

describe("an observed pool", function()
  it("tells of statements, good and failed", function()
    for _, fails in ipairs({ false, true }) do
      local pool, heard = listening(fails)
      local result, err = pool:query("select 1", { n = 0 })
      assert.same({ fails and "PG" or nil, not fails and "select 1" or nil },
        { err and err.code, result and result.rows[1].text })
      assert.same({ "query" }, heard)
    end
  end)

  it("tells of transactions behind their statements, and hands on what they gave", function()
    local pool, heard = listening()
    assert.same({ 1, "more" }, { pool:tx(function(tx)
      tx:query("a", { n = 0 })
      tx:query("b", { n = 0 })
      return 1, "more"
    end) })
    assert.same({ "query", "query", "transaction" }, heard)
  end)

  it("keeps to itself", function()
    local first, heard_first = listening()
    local second, heard_second = listening()
    first:query("a", { n = 0 })
    assert.same({ { "query" }, {} }, { heard_first, heard_second })
    second:tx(function() return true end)
    assert.same({ { "query" }, { "transaction" } }, { heard_first, heard_second })
  end)

  it("is the pool of the host in everything else", function()
    local pool, heard, host = listening()
    assert.same({ 1, 2 }, pool:batch({ 1, 2 }))
    pool:close()
    assert.same({ 1, {} }, { host.closed, heard })
  end)
end)
