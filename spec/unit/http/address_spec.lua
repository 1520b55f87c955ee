-- Callers are counted by networks, not by each of the addresses that a network has.

local address = require("macp.http.address")

describe("the network of", function()
  for peer, network in pairs({
    ["127.0.0.1"] = "127.0.0.1", ["::ffff:10.1.2.3"] = "::ffff:10.1.2.3", [""] = "",
    ["2001:db8:1:2:3:4:5:6"] = "2001:db8:1:2::/64", ["2001:db8:1:2::1"] = "2001:db8:1:2::/64",
    ["2001:db8::1"] = "2001:db8:0:0::/64", ["2001:db8::5:6:7:8:9"] = "2001:db8:0:5::/64",
    ["::1"] = "0:0:0:0::/64", ["::"] = "0:0:0:0::/64", ["fe80::1%eth0"] = "fe80:0:0:0::/64",
  }) do
    it("'" .. peer .. "'", function() assert.equal(network, address.network(peer)) end)
  end
end)
