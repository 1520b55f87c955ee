local peers = require("macp.runtime.peers")

describe("the network of a peer", function()
  local cases = {
    { "ipv4:192.0.2.7:4711", "192.0.2.7" },
    { "ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::/64" },
    { "ipv6:[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64" },
    { "ipv6:%5B2001:0DB8:1:2::9%5D:4711", "2001:db8:1:2::/64" },
    { "ipv6:%5B2001:db8::1%5D:1", "2001:db8:0:0::/64" },
    { "ipv6:%5B::1%5D:1", "0:0:0:0::/64" },
    { "ipv6:%5Bfe80::1%25eth0%5D:1", "fe80:0:0:0::/64" },
    { "ipv6:%5B::ffff:192.0.2.7%5D:1", "192.0.2.7" },
    { "unix:/tmp/x", "unix:/tmp/x" },
    { "", "" },
    { "ipv6:nonsense", "ipv6:nonsense" },
  }
  for _, case in ipairs(cases) do
    it(string.format("of `%s` is %s", case[1], case[2]), function()
      assert.equal(case[2], peers.network_of(case[1]))
    end)
  end
end)
