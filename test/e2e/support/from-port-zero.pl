# Sends UDP packets with the source port 0, which is impossible with a normal socket:
#
#     perl from-port-zero.pl SERVER PORT=HEX…
use strict;
use warnings;
use Socket qw(:DEFAULT IPPROTO_UDP);

my ($server, @packets) = @ARGV;
socket(my $raw, AF_INET, SOCK_RAW, IPPROTO_UDP) or die "socket: $!";
setsockopt($raw, SOL_SOCKET, SO_BROADCAST, 1) or die "setsockopt: $!";
my $to = pack_sockaddr_in(0, inet_aton($server));
for my $packet (@packets) {
  my ($port, $hex) = split /=/, $packet;
  my $payload = pack('H*', $hex);
  # RFC 768: source port, destination port, length, and no checksum.
  send($raw, pack('nnnn', 0, $port, 8 + length $payload, 0) . $payload, 0, $to) or die "send: $!";
}
