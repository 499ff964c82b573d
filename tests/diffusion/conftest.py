"""What the tests of diffusion share."""
