-- Pools of host.pg for its specs.

local pg = require("host.pg")

local M = {}

---A pool of four connections; `extra` changes its options. (yields)
function M.open(conninfo, extra)
  local opts = { conninfo = conninfo, size = 4 }
  for name, option in pairs(extra or {}) do opts[name] = option end
  return assert(pg.open(opts))
end

---The column v of the first row of a query, nil without one. (yields)
function M.value(pool, text, ...)
  local row = assert(pool:query(text, { n = select("#", ...), ... })).rows[1]
  return row and row.v
end

return M
