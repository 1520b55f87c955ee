-- host.pg, the part that calls Lua functions across waits (C functions cannot be yielded through).
-- Receives the table of C functions, the pool's methods included, and returns the finished module.

-- Commits and hands on what fn returned; anything else leaves the open transaction to release, which rolls back.
local function finish(lease, ok, ...)
  if not ok then
    lease:release()
    error((...), 0)
  end
  local first, err = ...
  if first == nil and err ~= nil then
    lease:release()
    return nil, err
  end
  local committed, failure = lease:commit()
  lease:release()
  if not committed then return nil, failure end
  return ...
end

return function(native)
  --- Runs fn(tx) on one connection in one transaction, committed when fn returns. Rolled back when it raises (the error
  --- goes on) or returns nil, err (returned). (yields)
  function native.methods:tx(fn)
    local lease, err = self:lease()
    if not lease then return nil, err end
    return finish(lease, pcall(fn, lease))
  end

  return { open = native.open, ping = native.ping, array = native.array, bytea = native.bytea, ts = native.ts }
end
