-- Memory of the isolates of a registry: how much, as a metric, and collecting it while the process is quiet.

local GROWTH = 1.25 -- since the last collection, below which another is not worth its time
local GROWTH_BYTES = 262144

local M = {}

-- A revision that sleeps has no isolate, and asking for it would make one.
local function used(rev)
  local iso = rawget(rev, "iso")
  return iso and iso:used() or 0
end

---Memory of the isolates by mode id, in bytes.
function M.by_mode(registry)
  local sums = {}
  for _, rev in pairs(registry.by_hash) do sums[rev.id] = (sums[rev.id] or 0) + used(rev) end
  return sums
end

---Declares the metric; it is read when the metrics are rendered.
function M.register(registry, metrics)
  local gauge = metrics:gauge("macp_mode_memory_bytes", "Memory of the isolates of a mode.", { "mode" })
  metrics:on_render(function()
    for id, bytes in pairs(M.by_mode(registry)) do gauge:set(id, bytes) end
  end)
end

---Collects the garbage of every isolate that has grown since its last collection. Takes milliseconds for each.
function M.collect(registry)
  for _, rev in pairs(registry.by_hash) do
    if used(rev) > (rev.collected_bytes or 0) * GROWTH + GROWTH_BYTES then
      rev.iso:collect()
      rev.collected_bytes = used(rev)
    end
  end
end

return M
