/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entered by PVH: 32-bit, paging off, EBX at the start information. Stays there, with tables of its own, and calls
 * main(); traps come to guest_trap() with everything saved.
 */
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.text
	.globl start
start:
	cli
	mov $stack_top, %esp
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov %eax, %ss
	mov $0x33, %eax			/* PE, MP, ET, NE */
	mov %eax, %cr0
	mov $0x600, %eax		/* OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	call guest_init
	call main
	push %eax
	call guest_exit
2:	hlt
	jmp 2b

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

/* The handler may come with any stack whose base is 0; it goes on with the flat one. */
trap_common:
	pusha
	push %ds
	push %es
	push %fs
	push %gs
	push %ss
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	cld
	push %esp
	call guest_trap
	add $4, %esp
	pop %ss
	pop %gs
	pop %fs
	pop %es
	pop %ds
	popa
	add $8, %esp
	iret

/* guest_enter_asm(context): loads it all; guest_leave() comes back from here. */
	.globl guest_enter_asm
guest_enter_asm:
	push %ebx
	push %ebp
	push %esi
	push %edi
	mov 20(%esp), %edi
	mov %esp, enter_sp
	mov %esp, tss + 4
	testl $0x20000, 13*4(%edi)
	jz 1f
	push 10*4(%edi)			/* to virtual-8086 mode: GS, FS, DS, ES below all others */
	push 9*4(%edi)
	push 7*4(%edi)
	push 8*4(%edi)
	jmp 2f
1:	mov 7*4(%edi), %ds		/* from here on the context is read through ES */
	mov %es:9*4(%edi), %fs
	mov %es:10*4(%edi), %gs
	testl $3, %es:12*4(%edi)
	jnz 2f
	mov %es:15*4(%edi), %ss		/* to this level: the stack first */
	mov %es:14*4(%edi), %esp
	jmp 3f
2:	push %es:15*4(%edi)
	push %es:14*4(%edi)
3:	push %es:13*4(%edi)
	push %es:12*4(%edi)
	push %es:11*4(%edi)
	mov %es:0*4(%edi), %eax
	mov %es:1*4(%edi), %ecx
	mov %es:2*4(%edi), %edx
	mov %es:3*4(%edi), %ebx
	mov %es:4*4(%edi), %ebp
	mov %es:5*4(%edi), %esi
	push %es:8*4(%edi)
	mov %es:6*4(%edi), %edi
	pop %es
	.globl guest_iret
guest_iret:
	iret

	.globl guest_leave
guest_leave:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov %eax, %ss
	mov enter_sp, %esp
	push $2
	popf
	pop %edi
	pop %esi
	pop %ebp
	pop %ebx
	ret

/* ---- real mode ---- */

	.globl guest_real_asm
guest_real_asm:
	push %ebx
	push %ebp
	push %esi
	push %edi
	mov %esp, enter_sp
	lidt real_idt
	ljmp $0x48, $to_real

	.section .low, "ax", @progbits
	.code16
	.globl real_entries
real_entries:				/* 8 bytes a vector */
	v = 0
	.rept 256
	.align 8
	pushw $v
	jmp real_common
	v = v + 1
	.endr

to_real:
	mov $0x50, %ax
	mov %ax, %ss
	mov %ax, %fs
	mov %ax, %gs
	mov real_data_selector, %ax	/* DS is still flat */
	mov %ax, %ds
	mov %ax, %es
	mov %cr0, %eax
	and $~1, %eax
	mov %eax, %cr0
	ljmp $0, $1f
1:	mov %cs:real_context + 15*4, %ss
	mov %cs:real_context + 14*4, %esp
	pushw %cs:real_context + 13*4
	pushw %cs:real_context + 12*4
	pushw %cs:real_context + 11*4
	mov %cs:real_context + 7*4, %ds
	mov %cs:real_context + 8*4, %es
	mov %cs:real_context + 9*4, %fs
	mov %cs:real_context + 10*4, %gs
	mov %cs:real_context + 0*4, %eax
	mov %cs:real_context + 1*4, %ecx
	mov %cs:real_context + 2*4, %edx
	mov %cs:real_context + 3*4, %ebx
	mov %cs:real_context + 4*4, %ebp
	mov %cs:real_context + 5*4, %esi
	mov %cs:real_context + 6*4, %edi
	iretw

real_common:
	mov %eax, %cs:real_context + 0*4
	mov %ecx, %cs:real_context + 1*4
	mov %edx, %cs:real_context + 2*4
	mov %ebx, %cs:real_context + 3*4
	mov %ebp, %cs:real_context + 4*4
	mov %esi, %cs:real_context + 5*4
	mov %edi, %cs:real_context + 6*4
	mov %ds, %cs:real_context + 7*4
	mov %es, %cs:real_context + 8*4
	mov %fs, %cs:real_context + 9*4
	mov %gs, %cs:real_context + 10*4
	popw %cs:real_vector
	popw %cs:real_context + 11*4
	popw %cs:real_context + 12*4
	popw %cs:real_context + 13*4
	mov %esp, %cs:real_context + 14*4
	mov %ss, %cs:real_context + 15*4
	cli
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $0x08, $from_real

	.align 4
	.globl real_context
real_context:
	.skip 16*4
	.globl real_vector
real_vector:
	.long 0
	.globl real_data_selector
real_data_selector:
	.word 0
	.globl real_idt
real_idt:
	.word 0x3ff
	.long 0

	.code32
	.text
from_real:
	mov $0x10, %eax
	mov %eax, %ds
	lidt idt_pointer
	jmp guest_leave

	.data
	.align 16
	.globl gdt
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08 code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cff3000000ffff	/* 18 user data */
	.quad 0x00cffb000000ffff	/* 20 user code */
	.quad 0, 0			/* 28 TSS */
	.quad 0, 0			/* 38 LDT */
	.quad 0x00009b000000ffff	/* 48 code, 16 bits */
	.quad 0x000093000000ffff	/* 50 data, 16 bits */
	.fill 30, 8, 0			/* 58 free */
gdt_end:
	.globl gdt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt

	.bss
	.align 4096
	.skip 16384
	.globl stack_top
stack_top:
	.skip 4096
	.globl user_stack_top
user_stack_top:
enter_sp:
	.skip 4
	.section .note.GNU-stack, "", @progbits
