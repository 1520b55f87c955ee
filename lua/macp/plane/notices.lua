-- Notices between processes: which runs have new events, and up to which number. One text for many runs of a tenant:
-- `tenant/run:seq run:seq`. Who gets one reads the rows itself.

local MAX_BYTES = 7900 -- PostgreSQL takes less than 8000

local M = { MAX_BYTES = MAX_BYTES }

---The notices of a stored (or about to be stored) batch.
---@param entries table[] of plane/batch.lua
---@return string[]
function M.of(entries)
  local by_tenant, texts = {}, {}
  local function close(open)
    texts[#texts + 1] = open.head .. table.concat(open.items, " ")
  end
  for i = 1, #entries do
    local entry = entries[i]
    if entry.n > 0 then
      local run = entry.run
      local item = run.id .. ":" .. entry.seqs[entry.n]
      local open = by_tenant[run.tenant]
      if open and open.bytes + #item + 1 > MAX_BYTES then
        close(open)
        open = nil
      end
      if open == nil then
        local head = run.tenant .. "/"
        open = { head = head, bytes = #head, items = {} }
        by_tenant[run.tenant] = open
      end
      open.items[#open.items + 1] = item
      open.bytes = open.bytes + #item + 1
    end
  end
  for _, open in pairs(by_tenant) do close(open) end
  return texts
end

---Calls fn(run_id, seq) for each run of a notice; what is no notice calls nothing.
---@param text string
---@param fn fun(run_id: string, seq: integer)
function M.each(text, fn)
  local items = text:match("/([^/]*)$")
  if items == nil then return end
  for run_id, seq in items:gmatch("([%x%-]+):(%d+)") do fn(run_id, tonumber(seq)) end
end

return M
