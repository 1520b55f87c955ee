-- How many requests of one connection are worked on at a time. More of them wait for their turn, in the order of their
-- arrival; HTTP/2's limit of streams per connection bounds how many can.

local task = require("host.task")

local Gate = {}
Gate.__index = Gate

local M = {}

---@param limit integer requests of one connection at a time
function M.new(limit) return setmetatable({ limit = limit, active = {}, waiting = {} }, Gate) end

---Takes a place of this connection. (yields when all are taken)
---@param peer string the connection's address, which no other connection has at the same time
---@return boolean entered false: the call ended while it waited; otherwise `leave` is owed
function Gate:enter(peer)
  local count = self.active[peer] or 0
  if count < self.limit then
    self.active[peer] = count + 1
    return true
  end
  local turn = self.waiting[peer]
  if turn == nil then
    turn = task.cond()
    self.waiting[peer] = turn
  end
  return turn:wait() == true
end

---Gives a place to the request that waits longest, or back.
function Gate:leave(peer)
  local turn = self.waiting[peer]
  if turn then
    if turn:signal() then return end
    self.waiting[peer] = nil
  end
  local count = self.active[peer] - 1
  self.active[peer] = count > 0 and count or nil
end

return M
