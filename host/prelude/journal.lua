-- host.journal, the part that calls Lua functions across waits (C functions cannot be yielded through).
-- Receives the table of C functions, the method tables included, and returns the finished module.

return function(native)
  local open_scan = native.open_scan

  local function walk(scan, fn)
    while true do
      local batch, err = scan:next()
      if not batch then return nil, err end
      local n = #batch -- key, index, bytes, key, index, bytes, ...
      if n == 0 then return true end
      for i = 1, n, 3 do fn(batch[i], batch[i + 1], batch[i + 2]) end
    end
  end

  --- Calls fn(key, index, bytes) for every durable record, each key's in order; keys may alternate. fn may wait.
  --- Records that are added, replaced or removed meanwhile may or may not be seen. (yields)
  function native.methods:scan(fn)
    local scan, err = open_scan(self)
    if not scan then return nil, err end
    local ok, result, failure = pcall(walk, scan, fn)
    scan:close()
    if not ok then error(result, 0) end
    return result, failure
  end

  return { open = native.open, backends = native.backends }
end
