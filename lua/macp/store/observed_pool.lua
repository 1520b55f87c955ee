-- A pool whose statements and transactions somebody hears of: what store modules take as `db`, like the host's pool.

local sys = require("host.sys")

---@alias macp.store.Observe fun(op: string, ms: number) hears of every statement ("query") and every transaction
--- ("transaction"), failed ones too

-- A transaction, or rather its lease of a connection.
local Tx = {}
Tx.__index = Tx

-- (yields)
local function query(native, observe, text, params)
  local began = sys.mono_ms()
  local result, err = native:query(text, params)
  observe("query", sys.mono_ms() - began)
  return result, err
end

function Tx:query(text, params) return query(self.native, self.observe, text, params) end

---@class macp.store.ObservedPool
local Pool = {}
Pool.__index = Pool

---(yields)
function Pool:query(text, params) return query(self.native, self.observe, text, params) end

local function tell(self, began, ...)
  self.observe("transaction", sys.mono_ms() - began)
  return ...
end

---(yields)
function Pool:tx(fn)
  local observe = self.observe
  return tell(self, sys.mono_ms(), self.native:tx(function(lease)
    return fn(setmetatable({ native = lease, observe = observe }, Tx))
  end))
end

function Pool:batch(...) return self.native:batch(...) end

function Pool:script(...) return self.native:script(...) end

function Pool:unit() return self.native:unit() end

function Pool:listen(channel) return self.native:listen(channel) end

function Pool:stats() return self.native:stats() end

function Pool:close() return self.native:close() end

local M = {}

---@param native table a pool of host.pg
---@param observe macp.store.Observe must not yield
---@return macp.store.ObservedPool
function M.new(native, observe) return setmetatable({ native = native, observe = observe }, Pool) end

return M
