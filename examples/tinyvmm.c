/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A complete VMM on libvmmapi: 2 MiB of RAM, a serial port to write to, a port that ends it.
 *
 *	cc -o tinyvmm tinyvmm.c $(pkg-config --cflags --libs libvmmapi)
 *	./tinyvmm [kvm|soft|auto]
 *
 * The guest adds up 1 to 10 in 32-bit protected mode, prints the sum by asking for each character's port, and
 * writes its exit status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <vmmapi.h>

enum { RAM = 2 << 20, ENTRY = 0x1000, COM1 = 0x3f8, EXIT_PORT = 0xf4 };

static const uint8_t guest[] = {
    0x31, 0xc0,			     /*     xor  %eax, %eax		*/
    0xb9, 10,	0,    0,    0,	     /*     mov  $10, %ecx			*/
    0x01, 0xc8,			     /* 1:  add  %ecx, %eax		*/
    0xe2, 0xfc,			     /*     loop 1b			*/
    0xb3, 10,			     /*     mov  $10, %bl			*/
    0xf6, 0xf3,			     /*     div  %bl			*/
    0x66, 0xba, 0xf8, 0x03,	     /*     mov  $0x3f8, %dx		*/
    0x66, 0x05, 0x30, 0x30,	     /*     add  $0x3030, %ax		*/
    0xee,			     /*     out  %al, (%dx)		*/
    0x88, 0xe0,			     /*     mov  %ah, %al			*/
    0xee,			     /*     out  %al, (%dx)		*/
    0xb0, 10,			     /*     mov  $'\n', %al		*/
    0xee,			     /*     out  %al, (%dx)		*/
    0x8b, 0x1d, 0,    0,    0, 0x10, /*     mov  0x10000000, %ebx	*/
    0x88, 0xd8,			     /*     mov  %bl, %al			*/
    0xe6, 0xf4,			     /*     out  %al, $0xf4		*/
    0xf4,			     /*     hlt				*/
};

static void
die(struct vmctx *ctx, const char *what)
{
	struct vm_error e = {0};

	vm_get_error(ctx, &e);
	fprintf(stderr, "tinyvmm: %s: %s\n", what, e.text);
	vm_destroy(ctx);
	exit(1);
}

/* A port access. True: the guest has ended. */
static bool
port(struct vmexit *x, int *status)
{
	if (x->u.md.inout.in)
		x->u.md.inout.eax = ~0u; /* nobody there */
	else if (x->u.md.inout.port == COM1)
		putchar((int)(x->u.md.inout.eax & 0xff));
	else if (x->u.md.inout.port == EXIT_PORT)
		*status = (int)(x->u.md.inout.eax & 0xff);
	return !x->u.md.inout.in && x->u.md.inout.port == EXIT_PORT;
}

static int
run(struct vcpu *vcpu)
{
	struct vmexit x = {0};
	int status = -1;

	while (vm_run(vcpu, &x) == 0) {
		switch (x.exitcode) {
		case VM_EXITCODE_INOUT:
			if (port(&x, &status))
				return status;
			break;
		case VM_EXITCODE_MMIO:
			if (!x.u.mmio.write)
				x.u.mmio.data = 42; /* the one device of this machine */
			break;
		case VM_EXITCODE_BOGUS:
		case VM_EXITCODE_PAUSE:
			break;
		default:
			fprintf(stderr, "tinyvmm: exit %d %s\n", x.exitcode,
				x.exitcode == VM_EXITCODE_ERROR ? x.u.error.text : "");
			return status;
		}
	}
	return status;
}

int
main(int argc, char **argv)
{
	struct vm_error e;
	struct vmctx *ctx = vm_create("tiny", argc > 1 ? argv[1] : "auto", 0, &e);
	struct vcpu *vcpu;
	int status;

	if (ctx == NULL) {
		fprintf(stderr, "tinyvmm: %s\n", e.text);
		return 1;
	}
	if (vm_setup_memory(ctx, RAM, VM_MMAP_ALL) != 0 ||
	    vm_write_gpa(ctx, ENTRY, guest, sizeof(guest)) != 0)
		die(ctx, "memory");
	vcpu = vm_vcpu_open(ctx, 0);
	if (vcpu == NULL || vm_setup_protected(vcpu, ENTRY) != 0)
		die(ctx, "vCPU");
	status = run(vcpu);
	fprintf(stderr, "tinyvmm: engine %s, status %d\n", vm_get_engine(ctx), status);
	vm_destroy(ctx);
	return status == 42 ? 0 : 1;
}
