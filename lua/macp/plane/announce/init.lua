-- How processes over one database tell each other of stored events: by the setting. What is announced are numbers only;
-- the events themselves are read from the database, so a lost notice costs time and nothing else.
-- A strategy has add(unit, batch), called with the unit of work that stores a batch, stored(batch), called after the
-- commit, work(), which receives until it fails, and is_well: whether it does.

local M = {}

---@param cfg table settings of the plane
---@param role table db, name, lease, hub, follower, owner
---@return table|nil nil: nothing is told
function M.new(cfg, role)
  if cfg.stream_hub_strategy == "memory" then return nil end
  return require("macp.plane.announce." .. cfg.stream_hub_strategy).new({
    db = role.db, name = role.name, lease = role.lease, hub = role.hub, follower = role.follower,
    redis_url = cfg.redis_url,
    owned = function(run_id) return role.owner.runs[run_id] or role.owner.announced[run_id] end,
  })
end

return M
