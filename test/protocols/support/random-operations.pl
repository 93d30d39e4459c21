# Runs random operations on files. Run with the same seed in two directories with the same contents,
# it must print the same. It prints no inode numbers, and no times, sizes or blocks that a file
# system may choose itself.
#
#     perl random-operations.pl DIRECTORY SEED STEPS
use strict;
use warnings;
use Errno ();
use Fcntl qw(:DEFAULT :mode :seek);
use POSIX ();

my ($directory, $seed, $steps) = @ARGV;
chdir $directory or die "$directory: $!";
srand $seed;
umask 0;
# No operation may wait for the other end of a FIFO.
$SIG{PIPE} = 'IGNORE';

# The numbers for x86_64: Perl has no names for these calls.
my ($SYS_read, $SYS_write, $SYS_mmap, $SYS_munmap, $SYS_msync, $SYS_fsync) = (0, 1, 9, 11, 26, 74);
my ($SYS_setgroups, $SYS_setresuid, $SYS_setresgid) = (116, 117, 119);
my ($SYS_mknodat, $SYS_newfstatat, $SYS_utimensat) = (259, 262, 280);
my ($AT_FDCWD, $AT_SYMLINK_NOFOLLOW) = (-100, 0x100);
my ($PROT_READ_WRITE, $MAP_SHARED, $MS_SYNC) = (3, 1, 4);

my @names = ('a' .. 'f', 'image', 'A' x 255, "\xff\xfe", "new\nline", 'ü', 'B' x 256);
# Each user has the group of the same number, and maybe others.
my @users = ([0], [0], [1001], [1002, 1003]);
# Files that stay open for many steps. Their directory must stay, because an NFS client renames a
# file that is removed while it is open.
my @open;

sub pick { $_[int rand @_] }
sub chance { rand() < $_[0] }

sub name { chance(0.9) ? $names[rand 7] : pick(@names) }

# The paths of the present step, for finding an error.
my @paths;

sub path {
  push @paths, join '/', map { name() } 1 .. 1 + int(rand() ** 2 * 4);
  return $paths[-1];
}

# Paths that were made earlier. Listing directories instead would be too slow.
my @made;
sub known {
  return path() if !@made || chance(0.25);
  push @paths, pick(@made);
  return $paths[-1];
}
sub made {
  push @made, @paths;
  splice @made, 0, 20 if @made > 80;
}

sub mode { pick(0644, 0600, 0755, 0777, 0750, 04755, 02775, 06711, 01777, 0444, 0, int rand 010000) }

# Text in runs of one letter each, printed as `3x2y`.
sub text {
  my $length = chance(0.8) ? int rand 9000 : int rand 40_000;
  return pick('g' .. 'z') x $length;
}
sub offset {
  return 2 ** 32 - 5000 + int rand 10_000 if chance(0.01);
  return chance(0.7) ? int rand 20_000 : int rand 300_000;
}
sub runs {
  my ($text) = @_;
  my $shown = '';
  while ((pos $text // 0) < length $text) {
    my $letter = substr $text, pos $text // 0, 1;
    $text =~ /\G\Q$letter\E+/gc;
    $shown .= ($+[0] - $-[0]) . ($letter eq "\0" ? '0' : $letter) . ' ';
  }
  return $shown;
}

my %error_names;
sub outcome {
  return 'ok' if $_[0];
  # Cached: a search through all names is slower than most steps.
  return $error_names{$! + 0} //= (sort grep { $!{$_} } keys %!)[0];
}

# Times that were set are long ago. Other times are the present, and are not printed.
sub when { $_[0] < 1_500_000_000 ? "$_[0].$_[1]" : 'lately' }

sub attributes {
  my ($path, $with_access) = @_;
  my $found = "\0" x 144;
  syscall($SYS_newfstatat, $AT_FDCWD, $path, $found, $AT_SYMLINK_NOFOLLOW) == 0 or return outcome(0);
  my ($links, $mode, $uid, $gid, $device, $size, @times) = unpack 'x16 Q L3 x4 Q q x16 q4', $found;
  my $kind = S_IFMT($mode);
  my $shown = sprintf '%o %d %d:%d %s', $mode, $links, $uid, $gid, when(@times[2, 3]);
  $shown .= " size $size" unless $kind == S_IFDIR;
  $shown .= " device $device" if $kind == S_IFCHR || $kind == S_IFBLK;
  $shown .= ' read ' . when(@times[0, 1]) if $with_access;
  return $shown;
}

sub listing {
  opendir(my $handle, $_[0]) or return outcome(0);
  my @found = sort grep { !/^\.nfs/ } readdir $handle;
  closedir $handle;
  return join ' ', map { length > 20 ? substr($_, 0, 3) . length : $_ } @found;
}

sub with_file {
  my ($path, $flags, $mode, $action) = @_;
  sysopen(my $file, $path, $flags | O_NONBLOCK | O_NOCTTY, $mode) or return outcome(0);
  # The file system does not decide how a device or a FIFO behaves.
  my $result = -f $file ? $action->($file) : 'no file';
  close $file or $result .= ' close: ' . outcome(0);
  return $result;
}

sub write_at {
  my ($file, $offset, $text) = @_;
  sysseek $file, $offset, SEEK_SET if defined $offset;
  my $count = syswrite $file, $text;
  return defined $count ? $count : outcome(0);
}

sub read_at {
  my ($file, $offset, $length) = @_;
  sysseek $file, $offset, SEEK_SET;
  my $text;
  my $count = sysread $file, $text, $length;
  return defined $count ? "$count: " . runs($text) : outcome(0);
}

# Perl's own variables would need twenty system calls for each step, which is slow in a virtual
# machine.
my $current = 0;
sub become {
  my ($user, @groups) = @_;
  return if $user == $current;
  # The uid that may change the other ids is given up last, and restored first.
  my @changes = (
    sub { syscall($SYS_setgroups, 0 + @groups, pack 'L*', @groups) },
    sub { syscall($SYS_setresgid, -1, $user, -1) },
    sub { syscall($SYS_setresuid, -1, $user, -1) },
  );
  for my $change ($user ? @changes : reverse @changes) {
    $change->() == 0 or die "user $user: $!";
  }
  $current = $user;
}

# read(2) and write(2) use the mapped memory as their buffer: Perl itself cannot access it.
sub write_mapped {
  my ($file, $where, $text) = @_;
  my $size = -s $file or return 'empty';
  my $start = 4096 * int($where * $size / 4096);
  my $length = $size - $start < length $text ? $size - $start : length $text;
  my $address =
    syscall($SYS_mmap, 0, $length, $PROT_READ_WRITE, $MAP_SHARED, fileno $file, $start);
  return outcome(0) if $address == -1;
  my ($from, $to);
  pipe $from, $to or die "pipe: $!";
  syswrite $to, $text, $length;
  my $count = syscall($SYS_read, fileno $from, $address, $length);
  my $synced = outcome(syscall($SYS_msync, $address, $length, $MS_SYNC) == 0);
  syscall($SYS_write, fileno $to, $address, $length);
  my $found;
  sysread $from, $found, $length;
  syscall($SYS_munmap, $address, $length);
  return "$start: $count $synced " . runs($found);
}

# Lists a directory while names change. Names that stay must be found exactly once.
sub walk {
  my @others = map { 'many/other' . int rand 30 } 1 .. 6;
  my (%found, $count);
  opendir(my $handle, 'many') or return outcome(0);
  while (defined(my $name = readdir $handle)) {
    $found{$name}++ if $name =~ /^stays/;
    next if ++$count % 40 || !@others;
    my $other = shift @others;
    sysopen(my $file, $other, O_CREAT | O_EXCL, 0600) or unlink $other or die "$other: $!";
  }
  return join ' ', scalar(keys %found), grep { $found{$_} > 1 } sort keys %found;
}

sub timespec { pack 'q2', int rand 1_400_000_000, int rand 1_000_000_000 }

my %operations = (
  create => sub { with_file(path(), O_CREAT | O_WRONLY, mode(), sub { write_at($_[0], 0, text()) }) },
  exclusive => sub { with_file(path(), O_CREAT | O_EXCL | O_RDWR, mode(), sub { 'made' }) },
  overwrite => sub { my ($at, $text) = (offset(), text());
    with_file(known(), O_WRONLY, 0, sub { write_at($_[0], $at, $text) }) },
  append => sub { my $text = text();
    with_file(known(), O_WRONLY | O_APPEND, 0, sub { write_at($_[0], undef, $text) }) },
  # Not to the present size: an NFS client does not send such a change to the server.
  shorten => sub { my $path = known();
    !-f $path || -s _ ? with_file($path, O_WRONLY | O_TRUNC, 0, sub { 'ok' }) : 'empty' },
  synced => sub { my ($at, $text) = (offset(), text());
    with_file(known(), O_RDWR, 0, sub {
      write_at($_[0], $at, $text) . ' ' . outcome(syscall($SYS_fsync, fileno $_[0]) == 0) }) },
  read => sub { my $at = offset(); with_file(known(), O_RDONLY, 0, sub { read_at($_[0], $at, 70_000) }) },
  whole => sub { with_file(known(), O_RDONLY, 0, sub { read_at($_[0], 0, 400_000) }) },
  truncate => sub { my ($path, $size) = (known(), offset());
    -f $path && -s _ == $size ? 'that size' : outcome(truncate $path, $size) },
  mkdir => sub { outcome(mkdir path(), mode()) },
  rmdir => sub { outcome(rmdir known()) },
  unlink => sub { outcome(unlink known()) },
  rename => sub { outcome(rename known(), chance(0.5) ? known() : path()) },
  link => sub { outcome(link known(), path()) },
  symlink => sub { outcome(symlink chance(0.5) ? path() : pick('.', 'image/sub', 'no/where'), path()) },
  readlink => sub { readlink(known()) // outcome(0) },
  mknod => sub {
    my ($path, $kind) = (path(), pick(S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK));
    my $device = pick(0x103, 0x1234_5678, 0xffff_ffff);
    outcome(syscall($SYS_mknodat, $AT_FDCWD, $path, $kind | mode(), $device) == 0) },
  mkfifo => sub { outcome(POSIX::mkfifo(path(), mode())) },
  chmod => sub { my $mode = mode(); outcome(chmod $mode, known()) },
  # Not without both: locally this clears setuid, but an NFS client sends nothing.
  chown => sub { my @owners = (pick(0, 1001, 1002), pick(-1, 0, 1001, 1002, 1003));
    outcome(chown @owners, known()) },
  utimes => sub { my ($path, $times) = (known(), timespec() . timespec());
    syscall($SYS_utimensat, $AT_FDCWD, $path, $times, $AT_SYMLINK_NOFOLLOW) == 0 or return outcome(0);
    return attributes($path, 1) },
  list => sub { listing(known()) },
  # Only for files and directories: for other nodes, an NFS client never grants execution.
  access => sub { my $path = known();
    join '', map { POSIX::access($path, $_) ? 1 : 0 } 2, 4, -f $path || -d _ ? 1 : () },
  hold => sub { my $name = 'held/' . name();
    shift @open if @open > 5;
    sysopen(my $file, $name, O_CREAT | O_RDWR, 0600) or return outcome(0);
    push @open, $file; 'held' },
  walk => \&walk,
  map => sub { my ($where, $text) = (rand, text());
    with_file(known(), O_RDWR, 0, sub { write_mapped($_[0], $where, $text) }) },
  use_held => sub { @open or return 'none';
    my ($file, $at, $text) = (pick(@open), offset(), text());
    my $written = write_at($file, $at, $text);
    my $size = (stat $file)[7];
    return "$written $size " . read_at($file, int rand $size + 1, 30_000) },
  unlink_held => sub { outcome(unlink 'held/' . name()) },
  rename_held => sub { outcome(rename 'held/' . name(), 'held/' . name()) },
);
my @common = qw(create create overwrite append read whole list);
my @kinds = (sort(keys %operations), @common);
# Only root does these, because root may remove everything. Other users could lose their open files,
# and their writes to mapped pages clear setuid only over NFS.
my %as_root = map { $_ => 1 } qw(hold use_held unlink_held rename_held walk map);
my %names = map { $_ => 1 } qw(create exclusive mkdir rmdir unlink rename link symlink mkfifo mknod);
my %makes = map { $_ => 1 } qw(create exclusive mkdir rename link symlink mkfifo mknod);

mkdir $_, 0700 for 'held', 'many';
for (1 .. 300) { sysopen(my $file, sprintf('many/stays%0200d', $_), O_CREAT, 0600) or die "many: $!" }
for my $step (1 .. $steps) {
  my $kind = pick(@kinds);
  my ($user, @groups) = $as_root{$kind} ? (0) : @{pick(@users)};
  @paths = ();
  become($user, @groups);
  my $result = $operations{$kind}->();
  become(0);
  # If there are several errors, an NFS client finds another one first, because the server checks
  # permissions.
  $result = 'EACCES or the like' if $user && $names{$kind} && $result =~ /^E/;
  print "$step $kind $user @paths: $result\n";
  made() if $makes{$kind} && $result !~ /^E/;
  my $path = known();
  print "$step at $path: ", attributes($path), "\n";
}
@open = ();

# Prints all files at the end.
my @left = ('.');
while (defined(my $path = shift @left)) {
  print "$path: ", attributes($path), "\n";
  if (-l $path) { print '  to ', readlink $path, "\n" }
  elsif (-d _) {
    opendir(my $handle, $path) or die "$path: $!";
    push @left, map { "$path/$_" } sort grep { !/^\.nfs/ && $_ ne '.' && $_ ne '..' } readdir $handle;
  }
  elsif (-f _) { print '  ', with_file($path, O_RDONLY, 0, sub { read_at($_[0], 0, 400_000) }), "\n" }
}
print "end\n";
