// Rules of firewalls, with as many forms of conditions as possible.

/** In each, `BRIDGE` stands for the interface of the server. */
export const nftRulesets: Readonly<Record<string, string>> = {
  'nothing at all': '',
  'a policy with open ports': `
    table inet filter {
      set open { type inet_service; elements = { 22, 69 } }
      chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        meta l4proto icmp accept
        udp dport @open counter accept
        meta l4proto { tcp, udp } th dport 111 accept
        iifname "enx*" tcp dport 80-81 accept
      }
    }`,
  'networks, interfaces and jumps': `
    table ip guard {
      set nets { type ipv4_addr; flags interval; elements = { 10.66.0.0/24, 10.1.0.1-10.1.0.9 } }
      chain other { tcp dport { 80, 111 } accept; return; }
      chain last { udp dport != 69 drop; }
      chain input {
        type filter hook input priority 5;
        ip saddr @nets tcp dport 2049 accept
        iifname vmap { "BRIDGE" : jump other, "eth1" : drop }
        ip saddr != 10.0.0.0/8 accept
        ip protocol tcp reject
        udp dport 2049 goto last
        udp dport 111 reject
        accept
      }
    }`,
  'the checks of NixOS': `
    table inet nixos-fw {
      chain rpfilter {
        type filter hook prerouting priority mangle + 10; policy drop;
        meta nfproto ipv4 udp sport . udp dport { 67 . 68, 68 . 67 } accept
        fib saddr . mark . iif oif exists accept
      }
      chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state vmap { invalid : drop, established : accept, related : accept, new : jump input-allow, untracked : jump input-allow }
        tcp flags & (fin|syn|rst|ack) == syn log prefix "refused connection: "
      }
      chain input-allow { tcp dport { 80 } accept; udp dport { 69, 4011 } accept; iifname "BRIDGE" udp dport 67 accept; icmp type echo-request accept; }
    }`,
  'comparisons and kinds of packets': `
    table inet filter {
      chain input {
        type filter hook input priority 0;
        meta nfproto ipv6 accept
        meta pkttype { broadcast, multicast } drop
        fib daddr type != local drop
        tcp dport > 1024 drop
        tcp dport <= 80 tcp flags & (fin | syn | rst | ack) == syn accept
        udp dport >= 111 udp dport < 2048 drop
        tcp dport 111 ct state new drop
      }
    }
    table ip6 other {
      chain input { type filter hook input priority 0; policy drop; }
    }`,
  'before the routing': `
    table netdev early {
      chain ingress { type filter hook ingress device "BRIDGE" priority 0; udp dport 69 drop; }
    }
    table inet raw { chain pre { type filter hook prerouting priority raw; iifname "BRIDGE" tcp dport 80 drop; }
    }`,
}

export const iptablesRulesets: Readonly<Record<string, string>> = {
  'a policy with open ports': `
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p udp -m multiport --dports 67,69:70 -m comment --comment "a \\"quoted\\" -j DROP" -j ACCEPT
-A INPUT -i enx+ -p tcp -m state --state NEW -m tcp --dport 80 -j ACCEPT
-A INPUT -p icmp -j ACCEPT
COMMIT
`,
  'networks, chains and kinds of packets': `
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -i BRIDGE -p udp -m udp --dport 69 -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:allowed - [0:0]
:last - [0:0]
-A INPUT ! -s 10.0.0.0/8 -j ACCEPT
-A INPUT -s 10.66.0.0/255.255.255.0 -p tcp -m tcp --dport 2049 -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j allowed
-A INPUT -m addrtype --dst-type LOCAL -p udp -g last
-A INPUT -m pkttype --pkt-type broadcast -j DROP
-A allowed -p tcp -m tcp ! --dport 1:100 -m iprange --src-range 10.66.0.0-10.66.0.255 -j REJECT
-A allowed -p tcp -j RETURN
-A last -p udp -m udp --dport 111 -j LOG --log-prefix "hm "
-A last -p udp -m udp --dport 111 -j REJECT
COMMIT
`,
  'the checks of NixOS': `
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:nixos-fw-rpfilter - [0:0]
-A PREROUTING -j nixos-fw-rpfilter
-A nixos-fw-rpfilter -m rpfilter --validmark -j RETURN
-A nixos-fw-rpfilter -s 0.0.0.0/32 -d 255.255.255.255/32 -p udp -m udp --sport 68 --dport 67 -j RETURN
-A nixos-fw-rpfilter -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:nixos-fw - [0:0]
:nixos-fw-accept - [0:0]
:nixos-fw-log-refuse - [0:0]
-A INPUT -j nixos-fw
-A nixos-fw -i lo -j nixos-fw-accept
-A nixos-fw -m conntrack --ctstate RELATED,ESTABLISHED -j nixos-fw-accept
-A nixos-fw -p tcp -m tcp --dport 80 -j nixos-fw-accept
-A nixos-fw -i BRIDGE -p udp -m udp --dport 67 -j nixos-fw-accept
-A nixos-fw -j nixos-fw-log-refuse
-A nixos-fw-accept -j ACCEPT
-A nixos-fw-log-refuse -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j LOG --log-prefix "refused: "
-A nixos-fw-log-refuse -m pkttype ! --pkt-type unicast -j DROP
-A nixos-fw-log-refuse -j DROP
COMMIT
`,
}
