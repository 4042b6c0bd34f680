/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM's 8254, with port 0x61, in architectural form (x86/apic.h).
 *
 * KVM counts from the moment at which it is given a count, and does not tell how long counter 0 has been at
 * it. So a one-shot that runs is given what is left of it, where that is known; a periodic one begins anew.
 * What is odd about it besides (doc/quirks.md) is KVM's.
 */
#include "engine/kvm/internal.h"

#include <time.h>
#include "base/util.h"

/* Which byte comes next: kvm_pit_channel_state's read_state, write_state and count_latched. */
enum { BYTE_LOW = 1, BYTE_HIGH = 2, BYTE_LOW_OF_TWO = 3, BYTE_HIGH_OF_TWO = 4 };
/* KVM's word for a counter that has had no control word. It arms nothing. */
enum { MODE_NONE = 0xff, MODES = 6 };
enum { RW_BOTH = 3, MAX_COUNT = 0x10000 };

int
kvm_pit_init(struct kvm_vm *vm)
{
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_reinject_control reinject = {.pit_reinject = 0}; /* it does, unless told */
	int r = kvm_ioctl(vm->fd, KVM_CREATE_PIT2, &config);

	return r != 0 || !vm->cfg.pit_discard ? r : kvm_ioctl(vm->fd, KVM_REINJECT_CONTROL, &reinject);
}

/* ---- out ---- */

static uint64_t
ticks_since(int64_t monotonic_ns)
{
	struct timespec t;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec * (int64_t)NSEC_PER_SEC + t.tv_nsec;
	return now > monotonic_ns ? mul_div_u64((uint64_t)(now - monotonic_ns), X86_PIT_HZ, NSEC_PER_SEC) : 0;
}

static uint8_t
latched_bytes(const struct kvm_pit_channel_state *k)
{
	return k->count_latched == BYTE_LOW_OF_TWO ? 2 : k->count_latched != 0;
}

static void
counter_out(const struct kvm_pit_channel_state *k, bool load_time, struct x86_pit_counter *x)
{
	bool high_latched = k->count_latched == BYTE_HIGH && k->rw_mode == RW_BOTH;

	*x = (struct x86_pit_counter){
	    .latch = k->latched_count,
	    .latched = latched_bytes(k),
	    .rw = k->rw_mode != 0 ? k->rw_mode & 3 : RW_BOTH,
	    .write_low = k->write_latch,
	    .status = k->status,
	    .bcd = k->bcd != 0,
	    .gate = k->gate != 0,
	    .status_latched = k->status_latched != 0,
	    .write_high_next = k->write_state == BYTE_HIGH_OF_TWO,
	    .read_high_next = k->read_state == BYTE_HIGH_OF_TWO || high_latched,
	};
	if (k->mode >= MODES)
		return;
	x->mode = k->mode;
	x->count = k->count != 0 ? MIN(k->count, (uint32_t)MAX_COUNT) : MAX_COUNT;
	x->elapsed = load_time ? ticks_since(k->count_load_time) : 0;
}

int
kvm_get_pit(struct engine_vm *v, struct x86_pit *pit)
{
	struct kvm_pit_state2 k = {0};
	int r = kvm_ioctl(kvm_vm_of(v)->fd, KVM_GET_PIT2, &k);

	*pit = (struct x86_pit){.speaker = (k.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0,
				.hpet = (k.flags & KVM_PIT_FLAGS_HPET_LEGACY) != 0};
	for (unsigned n = 0; n < 3; n++)
		counter_out(&k.channels[n], n != 0, &pit->counter[n]);
	return r;
}

/* ---- in ---- */

static uint8_t
next_byte(uint8_t rw, bool high_next)
{
	return rw != RW_BOTH ? rw : high_next ? BYTE_HIGH_OF_TWO : BYTE_LOW_OF_TWO;
}

static uint8_t
latched_in(const struct x86_pit_counter *x)
{
	if (x->latched == 2)
		return BYTE_LOW_OF_TWO;
	if (x->latched == 0)
		return 0;
	return x->rw == BYTE_HIGH || (x->rw == RW_BOTH && x->read_high_next) ? BYTE_HIGH : BYTE_LOW;
}

/* What KVM is to count from now on. Modes 2 and 3 go round; others are over when the count is. */
static uint32_t
count_in(const struct x86_pit_counter *x)
{
	if (x->count == 0)
		return MAX_COUNT;
	if (x->mode == 2 || x->mode == 3)
		return x->count;
	return x->elapsed < x->count ? x->count - (uint32_t)x->elapsed : 1;
}

/* KVM has a count in every counter with a mode, and counter 0 interrupts at its end: one that was reset,
 * which is in mode 0 with no count, has none. In other modes the guest is about to write the count. */
static uint8_t
mode_in(const struct x86_pit_counter *x)
{
	return x->count != 0 || x->mode != 0 || x->write_high_next ? x->mode : MODE_NONE;
}

static void
counter_in(struct kvm_pit_channel_state *k, const struct x86_pit_counter *x)
{
	*k = (struct kvm_pit_channel_state){
	    .count = count_in(x),
	    .latched_count = x->latch,
	    .count_latched = latched_in(x),
	    .status_latched = x->status_latched,
	    .status = x->status,
	    .read_state = next_byte(x->rw, x->read_high_next),
	    .write_state = next_byte(x->rw, x->write_high_next),
	    .write_latch = x->write_low,
	    .rw_mode = x->rw,
	    .mode = mode_in(x),
	    .bcd = x->bcd,
	    .gate = x->gate,
	};
}

/* A counter 0 without a mode arms nothing. */
static int
quiet(struct kvm_vm *vm)
{
	struct kvm_pit_state2 k = {0};
	int r = kvm_ioctl(vm->fd, KVM_GET_PIT2, &k);

	k.channels[0].mode = MODE_NONE;
	return r != 0 ? r : kvm_ioctl(vm->fd, KVM_SET_PIT2, &k);
}

int
kvm_set_pit(struct engine_vm *v, const struct x86_pit *pit)
{
	struct kvm_vm *vm = kvm_vm_of(v);
	struct kvm_pit_state2 k = {0};

	if (pit == NULL)
		return quiet(vm);
	k.flags =
	    (pit->hpet ? KVM_PIT_FLAGS_HPET_LEGACY : 0) | (pit->speaker ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
	for (unsigned n = 0; n < 3; n++)
		counter_in(&k.channels[n], &pit->counter[n]);
	return kvm_ioctl(vm->fd, KVM_SET_PIT2, &k);
}
