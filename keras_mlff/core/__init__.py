"""What every architecture shares: energy, forces and stress, training steps, offsets."""
