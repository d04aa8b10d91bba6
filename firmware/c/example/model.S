/* The model file, at an address that is a multiple of 64, and the test image. */
    .section .rodata.model, "a"
    .balign 64
    .global model_file
model_file:
    .incbin "model.darts"
    .global test_image
test_image:
    .incbin "images.bin"

    .section .note.GNU-stack, "", %progbits
