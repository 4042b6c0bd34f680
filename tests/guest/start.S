/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entered by PVH: 32-bit, paging off, EBX at the start information. Goes to long mode over 4 GiB one to one and calls
 * main(); traps come to guest_trap() with everything saved.
 */
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	cli
	mov %ebx, guest_start_info
	mov $stack_top, %esp
	/* Page directories: 4 x 512 entries of 2 MiB. */
	mov $directories, %edi
	mov $0xe7, %eax			/* P, RW, US, A, D, PS */
1:	mov %eax, (%edi)
	add $8, %edi
	add $0x200000, %eax
	jnc 1b
	mov $directories + 0x27, %eax
	mov $pdpt, %edi
	mov $4, %ecx
1:	mov %eax, (%edi)
	add $8, %edi
	add $0x1000, %eax
	loop 1b
	movl $pdpt + 0x27, pml4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x901, %eax			/* SCE, LME, NXE */
	wrmsr
	mov $0x80000033, %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $0x08, $2f

	.code64
2:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $stack_top, %rsp
	call guest_init
	call main
	mov %eax, %edi
	call guest_exit
3:	hlt
	jmp 3b

/* What guest_start_ap() copies to 0x8000: real mode to 64-bit mode, then guest_ap_main(). */
	.globl ap_start, ap_end
	.code16
ap_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov $0x620, %eax
	mov %eax, %cr4
	lgdtl 0x8000 + ap_gdt_pointer - ap_start
	mov 0x8000 + ap_cr3 - ap_start, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x901, %eax
	wrmsr
	mov $0x80000033, %eax
	mov %eax, %cr0
	ljmpl $0x08, $ap_64
	.align 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
	.align 4
ap_cr3:	.long pml4
ap_end:
	.code64
ap_64:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	lidt idt_pointer
	mov $ap_stack_top, %rsp
	call *guest_ap_main
1:	cli
	hlt
	jmp 1b

/* Vectors 0-255: error code or 0, vector, then the common part. */
	.globl trap_entries
	.align 16
trap_entries:
	v = 0
	.rept 256
	.align 16
	.if v != 8 && v != 10 && v != 11 && v != 12 && v != 13 && v != 14 && v != 17 && v != 21
	push $0
	.endif
	push $v
	jmp trap_common
	v = v + 1
	.endr

trap_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call guest_trap
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

/* guest_enter_asm(context): loads it all; guest_leave() comes back from here. */
	.globl guest_enter_asm
guest_enter_asm:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, enter_sp
	mov %rsp, tss + 4
	push 15*8(%rdi)			/* SS, RSP, RFLAGS, CS, RIP */
	push 14*8(%rdi)
	push 13*8(%rdi)
	push 12*8(%rdi)
	push 11*8(%rdi)
	mov 7*8(%rdi), %ds
	mov 8*8(%rdi), %es
	mov 9*8(%rdi), %fs
	mov 10*8(%rdi), %gs
	mov 0*8(%rdi), %rax
	mov 1*8(%rdi), %rcx
	mov 2*8(%rdi), %rdx
	mov 3*8(%rdi), %rbx
	mov 4*8(%rdi), %rbp
	mov 5*8(%rdi), %rsi
	mov 6*8(%rdi), %rdi
	.globl guest_iret
guest_iret:
	iretq

	.globl guest_leave
guest_leave:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov enter_sp, %rsp
	push $2
	popf
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.globl guest_user_code
guest_user_code:
	call *%rax
	int $0x80

	.data
	.align 16
	.globl gdt
gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* 08 code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cff3000000ffff	/* 18 user data */
	.quad 0x00affb000000ffff	/* 20 user code */
	.quad 0, 0			/* 28 TSS */
	.quad 0, 0			/* 38 LDT */
	.quad 0x00009b000000ffff	/* 48 code, 16 bits */
	.quad 0x000093000000ffff	/* 50 data, 16 bits */
	.fill 30, 8, 0			/* 58 free */
gdt_end:
	.globl gdt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.bss
	.align 4096
	.globl pml4
pml4:	.skip 4096
pdpt:	.skip 4096
directories:
	.skip 4 * 4096
	.skip 16384
	.globl stack_top
stack_top:
	.skip 4096
ap_stack_top:
	.skip 4096
	.globl user_stack_top
user_stack_top:
enter_sp:
	.skip 8
	.section .note.GNU-stack, "", @progbits
