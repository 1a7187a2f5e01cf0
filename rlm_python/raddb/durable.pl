# Runs after python3 has committed without waiting for the disk, and waits for it before the router is answered.
#
# FreeRADIUS lets one thread at a time into python3 (RLM_TYPE_THREAD_UNSAFE), so a wait there would hold up all others.
# It lets every thread into rlm_perl, so packets that come together wait together, and the kernel merges their flushes.
# What was committed before is in the -wal by now; should a checkpoint have taken it from there, it was synced before.
use strict;
use warnings;
use IO::Handle;

our %RAD_PERLCONF;
use constant { RLM_MODULE_FAIL => 1, RLM_MODULE_OK => 2 };    # src/include/radiusd.h

sub accounting {
	open(my $wal, '<', $RAD_PERLCONF{wal}) or return RLM_MODULE_FAIL;
	return $wal->sync ? RLM_MODULE_OK : RLM_MODULE_FAIL;
}
