return {
  { "GET /board", summary = "Bids so far, highest first", handler = function(req) return req.view.board end },
  { "GET /winners", scope = "mode", summary = "Winners of the latest auctions",
    handler = function(req)
      local page, out = req.ask("runs.list", { mode = "ext.auction.v1", status = "completed", limit = 20 }), {}
      for i, run in ipairs(page.data) do out[i] = { run = run.id, winner = req.ask("runs.view", { id = run.id }).winner } end
      return out
    end },
}
